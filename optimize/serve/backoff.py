"""Exponential back-off between restarts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_EXPONENT_MAX = 64  # a night of failures must not overflow


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow exponentially while engines fail soon after their start.

    Attributes:
        first_s: Pause before the second consecutive restart; the first restart comes at once.
        factor: Growth from one pause to the next.
        longest_s: Upper bound of a pause.
        healthy_s: An engine that lived this long resets the count of consecutive restarts.
    """

    first_s: float
    factor: float
    longest_s: float
    healthy_s: float

    def pause_s(self, restarts: int) -> float:
        """Seconds to wait after this number of consecutive restarts; none before the first."""
        if restarts == 0:
            return 0.0
        return min(self.longest_s, self.first_s * self.factor ** min(restarts - 1, _EXPONENT_MAX))

    def consecutive(self, restarts: int, lifetime_s: float) -> int:
        """Consecutive restarts that still count once the last engine has lived for `lifetime_s`."""
        return 0 if lifetime_s >= self.healthy_s else restarts
