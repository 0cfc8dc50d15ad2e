"""What a search is judged on: a space, what it costs and gives to try a point of it, and what the point is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution

from objectives import Direction
from optimize.pareto import non_dominated
from optimize.search import optuna_compat
from optimize.search.encoding import Array

Point = dict[str, Any]
Space = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class Objective:
    """Direction of an objective, and whether ratios of it matter."""

    direction: Direction
    log: bool

    def loss(self, values: Array) -> Array:
        """Values on the scale that matters, to be minimized."""
        scaled = np.log(values) if self.log else np.asarray(values)
        return scaled if self.direction is Direction.MINIMIZE else -scaled


@dataclass(frozen=True)
class Reading:
    """One noisy measurement of a point.

    Attributes:
        values: Shape (objectives,); None where the configuration gave no figures.
        violations: Constraint -> by which share of its limit it is broken; not above 0 where it is kept, or where
            nothing is known because there are no figures.
        seconds: Duration, without the start of an engine.
        refused: The configuration is known to be refused before it is tried, and costs no trial.
        source: What the problem itself remembers of it.
    """

    values: tuple[float, ...] | None
    violations: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 1.0
    refused: bool = False
    source: Any = None


class Problem(Protocol):
    """A space whose truth is known.

    Attributes:
        name: Of the page's section.
        space: Knob -> distribution.
        objectives: By name.
        start: The point that every study begins with.
        engine_knobs: Knobs that another engine must be started for.
        start_s: Seconds of such a start.
        saturation: Knob -> a value beyond which more of it changes little.
    """

    name: str
    space: Space
    objectives: Mapping[str, Objective]
    start: Point
    engine_knobs: frozenset[str]
    start_s: float
    saturation: Mapping[str, float]

    def canonical(self, point: Mapping[str, Any]) -> Point:
        """The point with each knob that has no effect beside the others at one value."""

    def draw(self, point: Point, earlier: Sequence[Reading], rng: np.random.Generator) -> Reading:
        """A reading of a point, after those of the same study that came before it."""

    def figures(self, points: Sequence[Point]) -> Array:
        """True figures, shape (points, objectives); nan where a point gives none."""

    def share(self, points: Iterable[Point]) -> float:
        """True hypervolume of the feasible points among these, as a share of the best known."""


class Front:
    """Shares of the best known hypervolume.

    Args:
        losses: Shape (points, objectives): the losses of the best points known.
        reference: Shape (objectives,): the worst loss that counts.
    """

    def __init__(self, losses: Array, reference: Array) -> None:
        self._ideal = losses.min(0)
        self._span = np.maximum(reference - self._ideal, 1e-12)
        self._best = self._volume(losses)

    def share(self, losses: Array) -> float:
        """Hypervolume of points, shape (points, objectives), divided by that of the best known."""
        return self._volume(losses) / self._best

    def _volume(self, losses: Array) -> float:
        scaled = (losses - self._ideal) / self._span
        inside = scaled[np.all(scaled < 1, axis=1)] if len(scaled) else scaled
        if not len(inside):
            return 0.0
        front = inside[non_dominated(inside)]
        return optuna_compat.hypervolume(front, np.ones(front.shape[1]))
