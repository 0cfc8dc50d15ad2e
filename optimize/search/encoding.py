"""Points of a search space as rows of numbers, for the models of the search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Array = np.ndarray[Any, np.dtype[np.float64]]
Point = dict[str, Any]
PointKey = tuple[tuple[str, str], ...]
Space = Mapping[str, BaseDistribution]
Canonical = Callable[[Mapping[str, Any]], Point]
"""Puts the points of equal engines to one point, and a forbidden point to a permitted one."""
_SATURATED = 0.1
"""What distances beyond saturation count, as a share of those below it."""


class Encoding:
    """Each knob as a number from 0 to 1.

    Numbers are encoded by their place in the range, of its logarithm where that is the scale. Numbers among choices are
    encoded by their rank: a model that knows no order would have to learn 8 apart from 4. Other choices get numbers
    that mean nothing but alike or not.

    Args:
        space: Knob -> distribution.
        saturation: Knob -> a value beyond which more of it changes little; distances beyond it count a tenth.

    Attributes:
        categorical: Shape (knobs,): whether a knob's numbers mean nothing but alike or not.
    """

    def __init__(self, space: Space, saturation: Mapping[str, float] | None = None) -> None:
        self._space = space
        self._saturation = {
            n: _position(d, saturation[n])
            for n, d in space.items()
            if saturation and n in saturation and not is_unordered(d)
        }
        self.categorical = np.array([is_unordered(d) for d in space.values()], dtype=bool)

    def rows(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """Shape (points, knobs)."""
        columns = [[self._saturated(name, _position(d, p[name])) for p in points] for name, d in self._space.items()]
        return np.array(columns, dtype=float).reshape(len(self._space), len(points)).T

    def _saturated(self, name: str, position: float) -> float:
        """A position, rescaled to 0 to 1, where those beyond saturation lie close together."""
        limit = min(max(self._saturation.get(name, 1.0), 0.0), 1.0)
        beyond = max(position - limit, 0.0)
        return (position - (1 - _SATURATED) * beyond) / (limit + _SATURATED * (1 - limit))


def is_unordered(distribution: BaseDistribution) -> bool:
    """Whether these are choices that are not all numbers."""
    return isinstance(distribution, CategoricalDistribution) and not all(
        type(c) in (int, float) for c in distribution.choices
    )


def point_key(point: Mapping[str, Any]) -> PointKey:
    """Equal for equal points; True and 1 are different values."""
    return tuple(sorted((name, repr(value)) for name, value in point.items()))


def _position(distribution: BaseDistribution, value: Any) -> float:
    if is_unordered(distribution):
        return float(distribution.to_internal_repr(value))
    if isinstance(distribution, CategoricalDistribution):
        choices = sorted(float(c) for c in distribution.choices)  # type: ignore[arg-type]
        return float(np.interp(value, choices, np.linspace(0, 1, len(choices))))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, number = float(distribution.low), float(distribution.high), float(value)
    if distribution.log:
        return math.log(number / low) / math.log(high / low)
    return (number - low) / (high - low)


def every_point(space: Space, most: int) -> list[Point] | None:
    """All points of a space; None where there are more than `most`."""
    sizes = [_size(d) for d in space.values()]
    if math.prod(sizes) > most:
        return None
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*map(_values, space.values()))]


def _size(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return math.inf
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _values(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution) and distribution.step is not None
    return [distribution.low + i * distribution.step for i in range(round(_size(distribution)))]
