"""A thread that repeats an action, and outlives whatever the action raises."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Self

_log = logging.getLogger(__name__)


class Ticker:
    """Repeats an action in a daemon thread, from `start` until `stop`.

    An exception of the action is reported and costs that one repetition: a monitor that ends with its first fault says
    for ever what it saw last.

    Args:
        action: The action.
        period_s: Pause before each repetition, in seconds.
        name: Name of the thread, and of the action in reports.
        say: Receives each exception in one line, once until the action has succeeded again; None logs a warning.
    """

    def __init__(
        self, action: Callable[[], None], period_s: float, name: str, say: Callable[[str], None] | None = None
    ) -> None:
        self._action, self._period_s, self._name, self._say = action, period_s, name, say or _log.warning
        self._stopped, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._busy_since: float | None = None
        self._reported = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread once the present repetition has ended; nothing to end where it was not started."""
        self._stopped.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """Repeat at once."""
        self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether it goes on; False before the start."""
        return self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """Seconds that the present repetition has taken so far; 0 between two of them."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(self._period_s)
            self._wake.clear()
            if not self._stopped.is_set():
                self._repeat()

    def _repeat(self) -> None:
        self._busy_since = time.monotonic()
        try:
            self._action()
            self._reported = ""
        except Exception as error:  # whatever it is, the next repetition may succeed
            self._report(f"{self._name}: {type(error).__name__}: {error}")
        self._busy_since = None

    def _report(self, line: str) -> None:
        if line != self._reported:
            self._reported = line
            with contextlib.suppress(Exception):  # a closed stream or a full disk, say
                self._say(line)


class Ticking:
    """A context manager within which an action is repeated, as by a `Ticker`.

    Args:
        action: The action.
        period_s: Pause before each repetition, in seconds.
        name: Name of the thread, and of the action in reports.
    """

    def __init__(self, action: Callable[[], None], period_s: float, name: str) -> None:
        self._ticker = Ticker(action, period_s, name)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()
        self._settle()

    def _settle(self) -> None:
        """Do what remains once the last repetition has ended."""
