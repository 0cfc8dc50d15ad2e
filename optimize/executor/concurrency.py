"""Limit on the number of engines at a time, lowered where their measurements disturb each other. Pure."""

from __future__ import annotations

_LEAST = 4
_SHARE = 0.5


class ConcurrencyLimit:
    """Lowers the limit by one engine each time most of the last measurements beside others were disturbed.

    Args:
        slots: Number of slots; the first limit.

    Attributes:
        limit: Engines at a time.
    """

    def __init__(self, slots: int) -> None:
        self.limit = slots
        self._disturbed: list[bool] = []

    def observe(self, beside: int, disturbed: bool) -> str:
        """Count a measurement.

        Args:
            beside: Number of other measurements that ran when it ended.
            disturbed: Whether the interference guard found it disturbed, after its repeats.

        Returns:
            A message for people where the limit was lowered; else empty.
        """
        if beside < 1 or self.limit < 2:
            return ""
        self._disturbed.append(disturbed)
        window = max(_LEAST, 2 * self.limit)
        recent = self._disturbed[-window:]
        if len(recent) < window or sum(recent) <= _SHARE * len(recent):
            return ""
        self._disturbed.clear()
        self.limit -= 1
        return (
            f"the guard found {sum(recent)} of the last {len(recent)} measurements beside other engines disturbed: "
            f"{self.limit} at a time from here on"
        )
