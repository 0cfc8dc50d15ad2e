"""Means over stretches of time, which depend on each other far less than single pairs do. Pure."""

from __future__ import annotations

_ANSWERS = 4
"""Answers that follow each other in a block: those that overlap share the engine's queue and batch."""


class Blocks:
    """Collects values until a block is complete.

    Args:
        least_s: Least seconds of a block; four times the mean answer where that is longer.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._began_s, self._seconds = 0.0, 0.0
        self._values: list[float] = []

    def add(self, at_s: float, seconds: float, value: float) -> float | None:
        """Take one value; returns the mean of the block that it ends, in which it does not count itself.

        Args:
            at_s: When it was known, in seconds; values come in the order of time, or nearly so.
            seconds: Length of its answer.
            value: The value.
        """
        mean = None
        if self._values and at_s - self._began_s >= max(self._least_s, _ANSWERS * self._seconds / len(self._values)):
            mean = sum(self._values) / len(self._values)
            self._values, self._seconds = [], 0.0
        if not self._values:
            self._began_s = at_s
        self._values.append(value)
        self._seconds += seconds
        return mean
