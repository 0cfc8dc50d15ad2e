"""How much hypervolume a point is expected to add."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_ndtr, ndtri
from scipy.stats import qmc

from optimize.pareto import non_dominated
from optimize.search.encoding import Array
from optimize.search.gaussian_process import GaussianProcess
from optimize.search.optuna_compat import box_bounds

_DRAWS, _FIRST_DRAWS, _BEST = 64, 8, 200
_FRONT, _FRONT_OF_MANY = 40, 12
_AT_ONCE = 2_000_000
_TINY = 1e-12
_BEYOND = 0.1


def log_feasibility(constraints: Sequence[GaussianProcess], rows: Array) -> Array:
    """Logarithm of the probability that points keep every constraint, taken for independent; shape (points,)."""
    found = np.zeros(len(rows))
    for constraint in constraints:
        mean, deviation = constraint.predict(rows)
        found += log_ndtr(-mean / deviation)
    return found


def reference_point(front: Array, likely: Array) -> Array:
    """A tenth of the range beyond the worst of each objective, of what was measured and of what is to be expected.

    A reference of measured points alone hides what is better in one objective and worse in another than all of them.

    Args:
        front: Shape (n, objectives): losses of the feasible points.
        likely: Shape (n, objectives): losses expected of points that are probably feasible.
    """
    every = np.vstack([front, likely])
    return np.asarray(every.max(0) + _BEYOND * np.ptp(every, axis=0) + _TINY)


def log_improvement(
    losses: Sequence[GaussianProcess], rows: Array, feasible: Array, reference: Array, favour: Array,
    rng: np.random.RandomState,
) -> Array:  # fmt: skip
    """Logarithm of the expected hypervolume improvement of points, and what else speaks for them; shape (points,).

    The expectation is over draws from the models, the same for all points (Daulton, Balandat and Bakshy 2020,
    "Differentiable expected hypervolume improvement", equation 1). Objectives that went together so far are drawn
    together: throughput and latency are no two chances.

    Args:
        losses: A model of each objective, to be minimized.
        rows: The points, encoded.
        feasible: Shape (n, objectives): losses of the feasible points so far.
        reference: Shape (objectives,).
        favour: Shape (points,), added: the logarithm of whatever the improvement is weighed by. It also tells which
            points are looked at closely, or those that improve most and can never run would keep out all others.
        rng: Draws.
    """
    predicted = [model.predict(rows) for model in losses]
    mean, deviation = (np.stack(part, axis=-1) for part in zip(*predicted, strict=True))
    lower, upper = _boxes(feasible, reference, rng)
    draws = ndtri(qmc.Sobol(len(losses), rng=rng.randint(2**31)).random(_DRAWS) * (1 - 2e-9) + 1e-9)
    draws = draws @ np.linalg.cholesky(_together(feasible)).T
    found = favour + np.log(_mean_improvement(mean, deviation, draws[:_FIRST_DRAWS], lower, upper))
    best = np.argsort(-found)[:_BEST]
    worst = np.full(len(rows), -np.inf)  # what came after the first draws of all is out
    worst[best] = favour[best] + np.log(_mean_improvement(mean[best], deviation[best], draws, lower, upper))
    return worst


def _boxes(feasible: Array, reference: Array, rng: np.random.RandomState) -> tuple[Array, Array]:
    """Lower and upper corners, shape (boxes, objectives), of boxes that make up what no point dominates."""
    within = feasible[np.all(feasible < reference, axis=1)]
    front = np.unique(within[non_dominated(within)], axis=0) if len(within) else within
    objectives = len(reference)
    if objectives == 1 or not len(front):
        return np.full((1, objectives), -np.inf), (front[:1] if len(front) else reference[None])
    most = _FRONT if objectives <= 4 else _FRONT_OF_MANY  # boxes grow steeply with both
    if len(front) > most:
        front = front[rng.choice(len(front), most, replace=False)]
    return box_bounds(front, reference)


def _mean_improvement(mean: Array, deviation: Array, draws: Array, lower: Array, upper: Array) -> Array:
    found = np.empty(len(mean))
    step = max(1, _AT_ONCE // (len(draws) * lower.size))
    for i in range(0, len(mean), step):
        drawn = mean[i : i + step, None] + deviation[i : i + step, None] * draws
        sides = np.clip(upper - drawn[:, :, None], _TINY, upper - lower)
        found[i : i + step] = sides.prod(-1).sum(-1).mean(-1)
    return found


def _together(feasible: Array) -> Array:
    """Correlation of the objectives among these points, somewhat towards none."""
    objectives = feasible.shape[1]
    if len(feasible) < 3 or objectives == 1 or not np.all(np.ptp(feasible, axis=0) > 0):
        return np.eye(objectives)
    return np.asarray(0.9 * np.corrcoef(feasible.T) + 0.1 * np.eye(objectives))
