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
    return [int(i) for i in np.flatnonzero(non_dominated(_losses(estimates, directions)))]


def spread(estimates: Sequence[Mapping[str, Estimate]], directions: Mapping[str, Direction], n: int) -> list[int]:
    """Indices of up to n points: the first, and then each time the one that adds the most hypervolume.

    Volumes are of ranks, so that no objective's scale counts.
    """
    if not estimates or not n:
        return []
    ranks = np.argsort(np.argsort(_losses(estimates, directions), axis=0, kind="stable"), axis=0) / len(estimates)
    selection, candidates = [0], list(range(1, len(estimates)))
    while candidates and len(selection) < n:
        best = max(candidates, key=lambda i: hypervolumes(ranks[[*selection, i]], np.ones(len(directions)))[-1])
        candidates.remove(best)
        selection.append(best)
    return selection


def _losses(
    estimates: Sequence[Mapping[str, Estimate]], directions: Mapping[str, Direction]
) -> NDArray[np.float64]:  # fmt: skip
    """The objectives as losses, shape (points, objectives)."""
    signs = {name: 1.0 if d is Direction.MINIMIZE else -1.0 for name, d in directions.items()}
    return np.array([[sign * point[name].value for name, sign in signs.items()] for point in estimates])


def hypervolumes(values: NDArray[np.float64], reference: NDArray[np.float64]) -> list[float]:
    """Hypervolume that points dominate, after each of them.

    By exclusive volumes (While, Bradstreet and Barone, "A fast way of calculating exact hypervolumes", 2012): a new
    point adds its own box, less what the points before it dominate of that box.

    Args:
        values: Shape (points, objectives), every column to be minimized, in the order in which they come.
        reference: Shape (objectives,): the corner that volumes are measured from; points beyond it count nothing.

    Returns:
        One volume per point, never falling.
    """
    volumes, front_so_far, total = [], np.empty((0, len(reference))), 0.0
    for point in values:
        inside = bool((point < reference).all())
        if inside and not (front_so_far <= point).all(axis=1).any():
            total += _exclusive(point, front_so_far, reference)
            front_so_far = np.vstack([front_so_far[~(front_so_far >= point).all(axis=1)], point])
        volumes.append(total)
    return volumes


def _exclusive(point: NDArray[np.float64], others: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Volume that the point dominates and the others do not."""
    limited = np.unique(np.maximum(others, point), axis=0)
    return float(np.prod(reference - point)) - _volume(limited[non_dominated(limited)], reference)


def _volume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Volume that points dominate, none of which dominates another."""
    points = points[(points < reference).all(axis=1)]
    if points.shape[1] == 2:
        points = points[np.argsort(points[:, 0])]
        widths = np.append(points[1:, 0], reference[0]) - points[:, 0]
        return float((widths * (reference[1] - points[:, 1])).sum())
    points = points[np.argsort(points[:, -1])[::-1]]
    return sum(_exclusive(point, points[i + 1 :], reference) for i, point in enumerate(points))
