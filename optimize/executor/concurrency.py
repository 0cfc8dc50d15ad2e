"""How many engines at a time are safe: what the interference guard found beside others is held against it. Pure."""

from __future__ import annotations

_LEAST = 4
_SHARE = 0.5


class ConcurrencyLimit:
    """Fewer engines at a time where the guard keeps finding measurements disturbed that ran beside others.

    Args:
        slots: How many there are.
    """

    def __init__(self, slots: int) -> None:
        self.limit = slots
        self._heard: list[bool] = []

    def heard(self, beside: int, disturbed: bool) -> str:
        """Take note of a measurement.

        Args:
            beside: How many others ran when it ended.
            disturbed: Whether the guard found it disturbed, repeats included.

        Returns:
            What people should know; empty if nothing.
        """
        if beside < 1 or self.limit < 2:
            return ""
        self._heard.append(disturbed)
        window = max(_LEAST, 2 * self.limit)
        recent = self._heard[-window:]
        if len(recent) < window or sum(recent) <= _SHARE * len(recent):
            return ""
        self._heard.clear()
        self.limit -= 1
        return (
            f"the guard found {sum(recent)} of the last {len(recent)} measurements beside other engines disturbed: "
            f"{self.limit} at a time from here on"
        )
