"""Points chosen without a model: those that fill a space, and those of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

_HYPERCUBES = 50
_GRID_STEPS = 5


def filling(space: Mapping[str, BaseDistribution], n: int, rng: np.random.RandomState) -> list[dict[str, Any]]:
    """Points that fill a space: every choice, and every stretch of a range, about equally often, and far apart."""
    best, widest = np.empty((0, len(space))), -1.0
    for _ in range(_HYPERCUBES):
        cube = np.column_stack([(rng.permutation(n) + rng.random(n)) / n for _ in space])
        apart = np.linalg.norm(cube[:, None] - cube[None], axis=2)[np.triu_indices(n, 1)].min() if n > 1 else 0.0
        if apart > widest:
            best, widest = cube, apart
    return [{name: _at(d, share) for (name, d), share in zip(space.items(), row, strict=True)} for row in best]


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
