"""When a search has found what can be shown: is the gain to expect from going on below the noise? Pure.

A Gaussian process on the logarithm of the score says what the best point of the whole space is worth, on average over
draws from its posterior, beyond the best that was found: the expected simple regret (Ishibashi, Karasuyama, Takeuchi
and Hino, "A stopping criterion for Bayesian optimization by the gap of expected minimum simple regrets", 2023). Points
that are probably not feasible do not count. The gain is held against the standard error of a confirmed one: what is
smaller could not be told from chance.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from objectives import Estimate
from objectives.intervals import log_half
from optimize.search.encoding import Array, Coding, Levels

LEAST_TRIALS = 12
_LENGTHS = (0.1, 1.0)
"""Few trials fit any length; none so long that what lies beyond them all seems known. A knob spans 0 to 1."""
_SEED, _DRAWS, _POINTS = 0, 256, 500
_Z = 1.96
"""Half of a 95 % interval in standard errors."""


def what_is_left(
    params: Sequence[Mapping[str, Any]], scores: Sequence[Estimate | None], levels: Levels, rounds: int
) -> tuple[float, float]:
    """The gain to expect from searching on, and the standard error of a confirmed gain, in logarithms of the score.

    Args:
        params: Knob -> value of each trial.
        scores: Its score, each of two independent readings (its own and the baseline's); None where not feasible.
        levels: Knob -> the values that stand for its range.
        rounds: How often a confirmation measures each of the two.
    """
    known = [score if score is not None and score.value > 0 else None for score in scores]
    gain, noise = expected_regret(params, [None if s is None else math.log(s.value) for s in known], levels)
    # Few trials hide their noise from a model; their own intervals do not. The baseline's score is exact.
    claimed = [half / _Z / math.sqrt(2) for s in known if s is not None and (half := log_half(s)) > 0]
    noise = max(noise, statistics.median(claimed)) if claimed else noise
    return gain, noise * math.sqrt(2 / rounds)


def expected_regret(
    params: Sequence[Mapping[str, Any]], log_scores: Sequence[float | None], levels: Levels
) -> tuple[float, float]:
    """The gain to expect from searching on to the best point, and the noise of a reading, in logarithms of the score.

    Args:
        params: Knob -> value of each trial.
        log_scores: Logarithm of its score; None where it is not feasible.
        levels: Knob -> the values that stand for its range.

    Returns:
        (gain, noise); an infinite gain where fewer than three trials are feasible.
    """
    feasible = [i for i, score in enumerate(log_scores) if score is not None]
    if len(feasible) < 3:
        return math.inf, 0.0
    coded = Coding(levels)
    tried = coded.rows(params)
    y = np.array([score for score in log_scores if score is not None])
    model = _Process(tried[feasible], y)
    grid = coded.grid
    if len(feasible) < len(params):
        kept = _Process(tried, np.array([float(score is not None) for score in log_scores]))
        grid = grid[kept.mean(grid) > 0.5]
    rng = np.random.default_rng(_SEED)
    if len(grid) > _POINTS:
        grid = grid[rng.choice(len(grid), size=_POINTS, replace=False)]
    best = model.mean(tried[feasible]).max()
    points = np.vstack([grid, tried[feasible]])
    gain = float(np.mean(model.draws(points, rng).max(axis=1))) - float(best)
    return max(0.0, gain), model.noise


class _Process:
    """A Gaussian process through noisy values.

    Attributes:
        noise: Standard deviation of the values' noise.
    """

    def __init__(self, x: Array, y: Array) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._center, self._scale = float(y.mean()), float(y.std()) or 1.0
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(np.full(x.shape[1], 0.5), _LENGTHS, nu=2.5)
        self._model = GaussianProcessRegressor(kernel + WhiteKernel(0.1, (1e-4, 1.0)), random_state=_SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is an answer too
            self._model.fit(x, (y - self._center) / self._scale)
        self._noise_variance = float(self._model.kernel_.k2.noise_level)
        self.noise = math.sqrt(self._noise_variance) * self._scale

    def mean(self, rows: Array) -> Array:
        found: Array = self._model.predict(rows) * self._scale + self._center
        return found

    def draws(self, rows: Array, rng: np.random.Generator) -> Array:
        """What the values without noise may be, shape (draws, rows)."""
        mean, covariance = self._model.predict(rows, return_cov=True)
        covariance = covariance - self._noise_variance * np.eye(len(rows))
        drawn: Array = rng.multivariate_normal(mean, covariance, size=_DRAWS, method="eigh", check_valid="ignore")
        return drawn * self._scale + self._center
