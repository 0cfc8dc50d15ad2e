"""How long to wait before the next restart. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow exponentially while engines die young.

    Attributes:
        first_s: Pause before the second restart in a row; the first comes at once.
        factor: Growth from one pause to the next.
        longest_s: No pause is longer.
        healthy_s: A life of this length makes up for all restarts before it.
    """

    first_s: float
    factor: float
    longest_s: float
    healthy_s: float

    def pause_s(self, restarts: int) -> float:
        """Seconds to wait after so many restarts in a row; none before the first."""
        if restarts == 0:
            return 0.0
        # The exponent is bounded: a night of failures must not overflow.
        return min(self.longest_s, self.first_s * self.factor ** min(restarts - 1, 64))

    def in_a_row(self, restarts: int, lived_s: float) -> int:
        """Restarts in a row that count against an engine that lived so long after them."""
        return 0 if lived_s >= self.healthy_s else restarts
