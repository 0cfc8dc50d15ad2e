"""Made-up spaces whose front is known exactly: 2 to 20 knobs, with conditions, failures, noise and costly engines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from benchmarks.searching.problem import Front, Objective, Point, Reading, Space
from objectives import Direction
from optimize.search.encoding import Array

_ACTIVE, _CHILD, _LEVELS, _CHOICES = 6, 2, 5, ("a", "b", "c")
_PAIRS, _REFERENCE = 0.4, 0.9


class Synthetic:
    """Logarithms of throughput, latency and quality are sums of what single knobs and pairs of knobs contribute.

    At most six knobs matter, so that all of their combinations can be computed and the front is exact. Every third knob
    is a choice without an order; the others have five levels. Where the second knob is at its lowest level, the third
    has no effect. What a configuration demands of memory is such a sum as well: beyond a limit it gives no figures.

    Args:
        knobs: How many, 2 to 20.
        infeasible: Share of the space that gives no figures.
        noise: Standard deviation of a reading's logarithm.
        seed: Of the contributions.
    """

    saturation: Mapping[str, float] = {}
    objectives: Mapping[str, Objective] = {
        "throughput": Objective(Direction.MAXIMIZE, log=True),
        "latency": Objective(Direction.MINIMIZE, log=True),
        "quality": Objective(Direction.MAXIMIZE, log=True),
    }

    def __init__(self, knobs: int, infeasible: float, noise: float, seed: int = 0) -> None:
        self.name = f"synthetic, {knobs} knobs, {infeasible:.0%} fail, noise {noise:.0%}"
        self.space: Space = {f"knob_{i:02}": _distribution(i) for i in range(knobs)}
        self.start: Point = {name: _levels(d)[0] for name, d in self.space.items()}
        self._noise, rng = noise, np.random.default_rng(seed)
        self._active = list(self.space)[: min(_ACTIVE, knobs)]
        self.engine_knobs, self.start_s = frozenset(list(self.space)[::2]), 10.0
        sizes = [len(_levels(self.space[name])) for name in self._active]
        logs = _sums(sizes, rng, len(self.objectives) + 1)
        if len(sizes) > _CHILD:
            logs[:, 0] = logs[:, 0, :1]  # the third knob has no effect
        demand = logs[..., -1] - logs[(0,) * len(sizes)][-1]
        limit = max(float(np.quantile(demand, 1 - infeasible)), 0.0) + 1e-9
        self._logs, self._excess = logs[..., :-1], demand - limit
        losses = self._losses(self._logs[self._excess <= 0])
        self._front = Front(losses, np.quantile(losses, _REFERENCE, axis=0))

    def canonical(self, point: Mapping[str, Any]) -> Point:
        """The third knob has no effect where the second is at its lowest level."""
        if len(self.space) <= _CHILD:
            return dict(point)
        _, parent, child = list(self.space)[: _CHILD + 1]
        if point[parent] != self.start[parent]:
            return dict(point)
        return {**point, child: self.start[child]}

    def draw(self, point: Point, earlier: Sequence[Reading], rng: np.random.Generator) -> Reading:
        excess, logs = self._excess[self._index(point)], self._logs[self._index(point)]
        if excess > 0:
            return Reading(None, {"memory": math.expm1(excess)}, 0.3)
        values = np.exp(logs + self._noise * rng.standard_normal(len(logs)))
        return Reading(tuple(map(float, values)), {"memory": math.expm1(excess)}, 1.0)

    def figures(self, points: Sequence[Point]) -> Array:
        places = [self._index(p) for p in points]
        runs = np.array([[self._excess[i] <= 0] for i in places])
        return np.where(runs, np.exp(np.array([self._logs[i] for i in places])), np.nan)

    def share(self, points: Iterable[Point]) -> float:
        logs = [self._logs[i] for i in map(self._index, points) if self._excess[i] <= 0]
        return self._front.share(self._losses(np.array(logs))) if logs else 0.0

    def _index(self, point: Mapping[str, Any]) -> tuple[int, ...]:
        same = self.canonical(point)
        return tuple(_levels(self.space[name]).index(same[name]) for name in self._active)

    def _losses(self, logs: Array) -> Array:
        return np.column_stack([o.loss(np.exp(logs[:, i])) for i, o in enumerate(self.objectives.values())])


def _distribution(i: int) -> BaseDistribution:
    return CategoricalDistribution(_CHOICES) if i % 3 == 0 else IntDistribution(0, _LEVELS - 1)


def _levels(distribution: BaseDistribution) -> list[Any]:
    return list(_CHOICES) if isinstance(distribution, CategoricalDistribution) else list(range(_LEVELS))


def _sums(sizes: Sequence[int], rng: np.random.Generator, figures: int) -> Array:
    """Logarithms of all combinations, shape (*sizes, figures): effects of single knobs, and of neighbouring pairs."""
    logs = np.zeros((*sizes, figures))
    for i, size in enumerate(sizes):
        logs += _along(rng.normal(0, 0.4, (size, figures)).cumsum(0) / math.sqrt(size), (i,), sizes)
    for i, j in itertools.pairwise(range(len(sizes))):
        pair = _PAIRS * 0.4 * rng.normal(0, 1, (sizes[i], sizes[j], figures))
        logs += _along(pair, (i, j), sizes)
    return logs


def _along(effect: Array, knobs: Sequence[int], sizes: Sequence[int]) -> Array:
    """An effect of some knobs, in the shape of all combinations."""
    shape = [sizes[i] if i in knobs else 1 for i in range(len(sizes))]
    return effect.reshape(*shape, effect.shape[-1])
