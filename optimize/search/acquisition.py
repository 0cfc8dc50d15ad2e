"""Acquisition function: expected hypervolume improvement, weighted by the probability of feasibility and by cost."""

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
_CHUNK = 2_000_000
_TINY = 1e-12
_MARGIN = 0.1


def log_feasibility(constraints: Sequence[GaussianProcess], rows: Array) -> Array:
    """Logarithm of the probability that points keep every constraint, as if they were independent; shape (points,)."""
    log_probability = np.zeros(len(rows))
    for constraint in constraints:
        mean, deviation = constraint.predict(rows)
        log_probability += log_ndtr(-mean / deviation)
    return log_probability


def reference_point(front: Array, likely: Array) -> Array:
    """A tenth of the range beyond the worst value of each objective, measured or expected; shape (objectives,).

    A reference of measured points alone hides points that are better in one objective and worse in another than all.

    Args:
        front: Shape (n, objectives): losses of the feasible points.
        likely: Shape (n, objectives): losses expected of points that are probably feasible.
    """
    losses = np.vstack([front, likely])
    return np.asarray(losses.max(0) + _MARGIN * np.ptp(losses, axis=0) + _TINY)


class Improvement:
    """The expected improvement of the hypervolume.

    The expectation is over draws from the models, the same for all points (Daulton, Balandat and Bakshy 2020,
    "Differentiable expected hypervolume improvement", equation 1). Objectives that were correlated so far
    are drawn with that correlation: throughput and latency are not two chances.

    Args:
        losses: A model of each objective, to be minimized.
        feasible: Shape (n, objectives): losses of the feasible points so far.
        reference: Shape (objectives,).
        rng: Source of the draws.
    """

    def __init__(
        self, losses: Sequence[GaussianProcess], feasible: Array, reference: Array, rng: np.random.RandomState
    ) -> None:
        self._losses = losses
        self._lower, self._upper = _boxes(feasible, reference, rng)
        draws = ndtri(qmc.Sobol(len(losses), rng=rng.randint(2**31)).random(_DRAWS) * (1 - 2e-9) + 1e-9)
        self._draws = draws @ np.linalg.cholesky(_correlation(feasible)).T

    def logs(self, rows: Array, favour: Array) -> Array:
        """Logarithm of the expected improvement of points, plus what else favours them; shape (points,).

        Args:
            rows: The points, encoded.
            favour: Shape (points,): the logarithm of what the improvement is multiplied by. It also decides which
                points get all draws: otherwise points that improve most and can never run would keep out all others.
        """
        predicted = [model.predict(rows) for model in self._losses]
        mean, deviation = (np.stack(part, axis=-1) for part in zip(*predicted, strict=True))
        rough = favour + np.log(self._mean(mean, deviation, self._draws[:_FIRST_DRAWS]))
        best = np.argsort(-rough)[:_BEST]
        logs = np.full(len(rows), -np.inf)  # points outside of the best by the first draws are out
        logs[best] = favour[best] + np.log(self._mean(mean[best], deviation[best], self._draws))
        return logs

    def _mean(self, mean: Array, deviation: Array, draws: Array) -> Array:
        """Improvement of each point, averaged over the draws; shape (points,)."""
        improvements = np.empty(len(mean))
        step = max(1, _CHUNK // (len(draws) * self._lower.size))
        for i in range(0, len(mean), step):
            losses = mean[i : i + step, None] + deviation[i : i + step, None] * draws
            sides = np.clip(self._upper - losses[:, :, None], _TINY, self._upper - self._lower)
            improvements[i : i + step] = sides.prod(-1).sum(-1).mean(-1)
        return improvements


def _boxes(feasible: Array, reference: Array, rng: np.random.RandomState) -> tuple[Array, Array]:
    """Lower and upper corners, shape (boxes, objectives), of boxes that make up what no point dominates."""
    inside = feasible[np.all(feasible < reference, axis=1)]
    front = np.unique(inside[non_dominated(inside)], axis=0) if len(inside) else inside
    objectives = len(reference)
    if objectives == 1 or not len(front):
        return np.full((1, objectives), -np.inf), (front[:1] if len(front) else reference[None])
    most = _FRONT if objectives <= 4 else _FRONT_OF_MANY  # boxes grow steeply with both
    if len(front) > most:
        front = front[rng.choice(len(front), most, replace=False)]
    return box_bounds(front, reference)


def _correlation(feasible: Array) -> Array:
    """Correlation matrix of the objectives among these points, shrunk by a tenth towards independence."""
    objectives = feasible.shape[1]
    if len(feasible) < 3 or objectives == 1 or not np.all(np.ptp(feasible, axis=0) > 0):
        return np.eye(objectives)
    return np.asarray(0.9 * np.corrcoef(feasible.T) + 0.1 * np.eye(objectives))
