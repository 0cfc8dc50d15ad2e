"""Points chosen without a model: those that fill a space, neighbours of other points, and the values of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.search.encoding import Array, Point, Space, is_unordered

_HYPERCUBES = 50
_CLOSE = 0.1
_HALVINGS = 4
_GRID_STEPS = 5
_BELOW_ONE = 1 - 1e-9


def filling(space: Space, n: int, rng: np.random.RandomState) -> list[Point]:
    """Points that fill a space: every choice, and every stretch of a range, about equally often, and far apart.

    The Latin hypercube, of fifty, whose closest two points are farthest apart.
    """
    best, widest = np.empty((0, len(space))), -1.0
    for _ in range(_HYPERCUBES):
        cube = np.column_stack([(rng.permutation(n) + rng.random(n)) / n for _ in space])
        least = np.linalg.norm(cube[:, None] - cube[None], axis=2)[np.triu_indices(n, 1)].min() if n > 1 else 0.0
        if least > widest:
            best, widest = cube, least
    return [_point(space, positions) for positions in best]


def scattered(space: Space, n: int, rng: np.random.RandomState) -> list[Point]:
    """Points drawn evenly from a space."""
    return [_point(space, positions) for positions in rng.random((n, len(space)))]


def neighbours(space: Space, points: Sequence[Mapping[str, Any]], rng: np.random.RandomState) -> list[Point]:
    """Points that differ from others in one knob: twice anywhere, and twice by up to a tenth of its range."""
    near: list[Point] = []
    for point in points:
        for name, distribution in space.items():
            close = _position(distribution, point[name]) + rng.uniform(-_CLOSE, _CLOSE, 2)
            positions = [*rng.random(2), *close]
            near += [{**point, name: _value(distribution, min(max(p, 0.0), _BELOW_ONE))} for p in positions]
    return near


def one_choice_apart(space: Space, point: Mapping[str, Any]) -> list[Point]:
    """Points that differ from another in one choice, among choices that are not all numbers."""
    return [
        {**point, name: choice}
        for name, distribution in space.items()
        if isinstance(distribution, CategoricalDistribution) and is_unordered(distribution)
        for choice in distribution.choices
        if choice != point[name]
    ]


def outwards_in(distribution: BaseDistribution, value: Any) -> list[Any]:
    """Other values of an ordered knob: the end that is farther away, then each time half as far."""
    if isinstance(distribution, CategoricalDistribution):
        return [] if is_unordered(distribution) else _choices_outwards_in(distribution, value)
    position = _position(distribution, value)
    end = 1.0 if position < 0.5 else 0.0
    halvings = [min(position + (end - position) * 0.5**i, _BELOW_ONE) for i in range(_HALVINGS)]
    return [v for v in dict.fromkeys(_value(distribution, p) for p in halvings) if v != value]


def _choices_outwards_in(distribution: CategoricalDistribution, value: Any) -> list[Any]:
    choices = sorted(distribution.choices)  # type: ignore[type-var]
    here, last = choices.index(value), len(choices) - 1
    end = last if here < last / 2 else 0
    ranks = [here + round((end - here) * 0.5**i) for i in range(_HALVINGS)]
    return [choices[rank] for rank in dict.fromkeys(ranks) if rank != here]


def _point(space: Space, positions: Array) -> Point:
    return {name: _value(d, float(position)) for (name, d), position in zip(space.items(), positions, strict=True)}


def _position(distribution: BaseDistribution, value: Any) -> float:
    """Where in its range a value lies, 0 to 1; the inverse of `_value`."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.choices.index(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    return math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)


def _value(distribution: BaseDistribution, position: float) -> Any:
    """The value at a position from 0 to 1 in a range, on the range's own scale, or among the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(position * len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = float(distribution.low), float(distribution.high), distribution.step
    if isinstance(distribution, IntDistribution):
        low, high = low - 0.5, high + 0.5
    if distribution.log:
        value = math.exp(math.log(low) + position * math.log(high / low))
    else:
        value = low + position * (high - low)
    if step is not None and not distribution.log:
        value = distribution.low + step * round((value - distribution.low) / step)
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def spread(distribution: BaseDistribution, n: int) -> list[Any]:
    """All choices; else n values of a range, evenly on its own scale."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [_value(distribution, (place + 0.5) / n) for place in range(n)]


def grid_values(distribution: BaseDistribution) -> list[Any]:
    """All choices; all values of a short range; else five of it, or powers of two where it is logarithmic."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution) and distribution.log:
        return sorted({min(high, low * 2**i) for i in range(64) if low * 2 ** (i - 1) < high})
    fractions = [i / (_GRID_STEPS - 1) for i in range(_GRID_STEPS)]
    if distribution.log:
        return [low * (high / low) ** fraction for fraction in fractions]
    if distribution.step is None:
        return [low + (high - low) * fraction for fraction in fractions]
    steps = round((high - low) / distribution.step)
    multiples = range(steps + 1) if steps < _GRID_STEPS else [round(steps * fraction) for fraction in fractions]
    return [low + multiple * distribution.step for multiple in multiples]
