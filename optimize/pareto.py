"""Non-dominated points. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from objectives import Direction, Estimate


def non_dominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows no other row beats.

    Args:
        values: Shape (points, objectives), every column to be minimized.

    Returns:
        Shape (points,). Of equal rows all are kept.
    """
    no_worse = (values[:, None, :] <= values[None, :, :]).all(axis=2)
    better = (values[:, None, :] < values[None, :, :]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


def front(estimates: Sequence[Mapping[str, Estimate]], directions: Mapping[str, Direction]) -> list[int]:
    """Indices of the non-dominated points, by the values of the named objectives."""
    if not estimates:
        return []
    signs = {name: 1.0 if d is Direction.MINIMIZE else -1.0 for name, d in directions.items()}
    values = np.array([[sign * point[name].value for name, sign in signs.items()] for point in estimates])
    return [int(i) for i in np.flatnonzero(non_dominated(values))]
