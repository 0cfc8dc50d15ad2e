"""Background work that pauses during measurements."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager


class Background:
    """A thread that runs actions in the order of their submission.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pending: list[Future[None]] = []
        self._changed = threading.Condition()
        self._held = self._working = False

    def submit(self, action: Callable[[], None]) -> None:
        """Run an action after all submitted before it."""
        self._pending.append(self._executor.submit(self._run, action))

    def step(self) -> None:
        """Called by actions between their steps: returns once work may go on."""
        self._leave()
        self._enter()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No action proceeds within; entering waits for the current step to end."""
        try:
            with self._changed:
                self._held = True
                self._changed.wait_for(lambda: not self._working)  # a Ctrl-C here must not leave it held
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def catch_up(self) -> None:
        """Wait for all submitted actions; their exceptions are kept for `finish`."""
        wait(self._pending)

    def finish(self) -> None:
        """Wait for all submitted actions, and end the thread.

        Raises:
            Exception: the first exception of an action.
        """
        self._executor.shutdown()
        for future in self._pending:
            future.result()

    def _run(self, action: Callable[[], None]) -> None:
        self._enter()
        try:
            action()
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._held)
            self._working = True

    def _leave(self) -> None:
        with self._changed:
            self._working = False
            self._changed.notify_all()
