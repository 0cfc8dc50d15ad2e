"""A line now and then where nothing else is said, so that a log shows that its program lives, and what it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from optimize.ticker import Ticker

SILENCE_S = 25.0
"""Longest silence; a reader of a log begins to wonder after half a minute."""
_LOOK_S = 1.0


class Heartbeat:
    """Says a line after each silence; a context manager, which may be entered again within itself.

    Args:
        line: Describes what is going on; empty for nothing.
        say: Prints a line.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, line: Callable[[], str], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._line, self._say, self._clock = line, say, clock
        self._heard_at = clock()
        self._ticker, self._depth = Ticker(self.beat, _LOOK_S, "heartbeat"), 0

    def __enter__(self) -> Heartbeat:
        self._depth += 1
        if self._depth == 1:
            self.heard()
            self._ticker = Ticker(self.beat, _LOOK_S, "heartbeat")
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._ticker.stop()

    def heard(self) -> None:
        """Note that something was said."""
        self._heard_at = self._clock()

    def beat(self) -> None:
        """Say the line if it has been silent for long."""
        if self._clock() - self._heard_at >= SILENCE_S and (line := self._line()):
            self.heard()
            self._say(line)
