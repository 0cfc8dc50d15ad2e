"""Points chosen without a model: those that fill a space, those near or one choice apart from others, and a grid's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.search.encoding import Space, is_unordered

_HYPERCUBES = 50
_CLOSE = 0.1
_HALVINGS = 4
_GRID_STEPS = 5


def filling(space: Space, n: int, rng: np.random.RandomState) -> list[dict[str, Any]]:
    """Points that fill a space: every choice, and every stretch of a range, about equally often, and far apart."""
    best, widest = np.empty((0, len(space))), -1.0
    for _ in range(_HYPERCUBES):
        cube = np.column_stack([(rng.permutation(n) + rng.random(n)) / n for _ in space])
        apart = np.linalg.norm(cube[:, None] - cube[None], axis=2)[np.triu_indices(n, 1)].min() if n > 1 else 0.0
        if apart > widest:
            best, widest = cube, apart
    return [{name: _at(d, share) for (name, d), share in zip(space.items(), row, strict=True)} for row in best]


def scattered(space: Space, n: int, rng: np.random.RandomState) -> list[dict[str, Any]]:
    """Points drawn evenly from a space."""
    return [{name: _at(d, share) for (name, d), share in zip(space.items(), row, strict=True)}
            for row in rng.random((n, len(space)))]  # fmt: skip


def neighbours(space: Space, points: Sequence[Mapping[str, Any]], rng: np.random.RandomState) -> list[dict[str, Any]]:
    """Points that differ from others in one knob: twice anywhere, and twice by up to a tenth of its range."""
    found = []
    for point in points:
        for name, distribution in space.items():
            shares = [*rng.random(2), *(_share(distribution, point[name]) + rng.uniform(-_CLOSE, _CLOSE, 2))]
            found += [{**point, name: _at(distribution, min(max(s, 0.0), 1 - 1e-9))} for s in shares]
    return found


def one_choice_apart(space: Space, point: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points that differ from another in one choice, of those that are not all numbers."""
    return [
        {**point, name: choice}
        for name, distribution in space.items()
        if isinstance(distribution, CategoricalDistribution) and is_unordered(distribution)
        for choice in distribution.choices
        if choice != point[name]
    ]


def outwards_in(distribution: BaseDistribution, value: Any) -> list[Any]:
    """Values of an ordered knob other than this one: the end that is farther away, then each time half as far."""
    if isinstance(distribution, CategoricalDistribution):
        if is_unordered(distribution):
            return []
        choices = sorted(distribution.choices)  # type: ignore[type-var]
        here, last = choices.index(value), len(choices) - 1
        places = [here + round((last - here if here < last / 2 else -here) * 0.5**i) for i in range(_HALVINGS)]
        return [choices[i] for i in dict.fromkeys(places) if i != here]
    share = _share(distribution, value)
    end = 1.0 if share < 0.5 else 0.0
    found = [_at(distribution, min(share + (end - share) * 0.5**i, 1 - 1e-9)) for i in range(_HALVINGS)]
    return [v for v in dict.fromkeys(found) if v != value]


def _share(distribution: BaseDistribution, value: Any) -> float:
    """Where in its range a value lies; the opposite of `_at`."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.choices.index(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    return math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)


def _at(distribution: BaseDistribution, share: float) -> Any:
    """The value at a share of a range, 0 to 1, of its logarithm where that is its scale; or that of the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = float(distribution.low), float(distribution.high), distribution.step
    if isinstance(distribution, IntDistribution):
        low, high = low - 0.5, high + 0.5
    value = math.exp(math.log(low) + share * math.log(high / low)) if distribution.log else low + share * (high - low)
    if step is not None and not distribution.log:
        value = distribution.low + step * round((value - distribution.low) / step)
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def grid_values(distribution: BaseDistribution) -> list[Any]:
    """All choices; all values of a short range; else five of it, or powers of two where it is logarithmic."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if isinstance(distribution, IntDistribution) and distribution.log:
        return sorted({min(high, low * 2**i) for i in range(64) if low * 2 ** (i - 1) < high})
    if distribution.log:
        return [low * (high / low) ** (i / (_GRID_STEPS - 1)) for i in range(_GRID_STEPS)]
    if step is None:
        return [low + (high - low) * i / (_GRID_STEPS - 1) for i in range(_GRID_STEPS)]
    count = round((high - low) / step)
    picked = (
        range(count + 1) if count < _GRID_STEPS else [round(count * i / (_GRID_STEPS - 1)) for i in range(_GRID_STEPS)]
    )
    return [low + i * step for i in picked]
