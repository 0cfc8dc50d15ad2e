"""The clock that a load is timed by: real time, or a stand-in that needs none."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock."""

    def now(self) -> float:
        """Seconds since a moment that stays the same."""

    def sleep(self, seconds: float) -> None:
        """Return once so many seconds have passed."""


class MonotonicClock:
    """Real time, as `time.monotonic()` counts it."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
