"""What a decision is made by. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from objectives import Direction
from optimize.decision.constraints import Limit


@dataclass(frozen=True)
class Terms:
    """Objectives, weights and limits.

    Attributes:
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.
        limits: The constraints.
    """

    directions: Mapping[str, Direction]
    weights: Mapping[str, float]
    limits: Sequence[Limit]
