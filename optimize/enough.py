"""When a search has found what can be shown: is the gain to expect from one more trial below the noise? Pure.

A Gaussian process on the logarithm of the score gives every point of a grid an expected improvement over the best
(Jones, Schonlau and Welch, "Efficient global optimization of expensive black-box functions", 1998), times the
probability that it is feasible (Gardner et al., "Bayesian optimization with inequality constraints", 2014). It is held
against the standard error of a confirmed gain: what is smaller could not be told from chance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from optimize.coding import Array, Coding, Levels

BUDGET, NOISE = UNTIL = ("budget", "noise")
"""How long a search goes on: as long as it may, or until this module says that it is enough."""
LEAST_TRIALS = 12
_SEED = 0


def expected_gain(
    params: Sequence[Mapping[str, Any]], log_scores: Sequence[float | None], levels: Levels
) -> tuple[float, float]:
    """The largest gain to expect from one more trial, and the noise of a reading, both in logarithms of the score.

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
    fitted, noise = _fit(tried[feasible], y)
    at_tried, _ = fitted(tried[feasible])
    mean, sd = fitted(coded.grid)
    better = mean - float(at_tried.max())
    sd = np.maximum(sd, 1e-9)
    density = np.exp(-0.5 * (better / sd) ** 2) / math.sqrt(2 * math.pi)
    improvement = better * ndtr(better / sd) + sd * density
    if len(feasible) < len(params):
        kept, _ = _fit(tried, np.array([float(score is not None) for score in log_scores]))
        improvement = improvement * np.clip(kept(coded.grid)[0], 0.0, 1.0)
    return float(improvement.max()), noise


def _fit(x: Array, y: Array) -> Any:
    """A process through noisy values: a function of rows to mean and deviation, and the deviation of the noise."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    center, scale = float(y.mean()), float(y.std()) or 1.0
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(np.ones(x.shape[1]), (0.1, 10.0), nu=2.5)
    model = GaussianProcessRegressor(kernel + WhiteKernel(0.1, (1e-4, 1.0)), random_state=_SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is an answer too
        model.fit(x, (y - center) / scale)
    noise = float(model.kernel_.k2.noise_level)

    def predict(rows: Array) -> tuple[Array, Array]:
        mean, deviation = model.predict(rows, return_std=True)
        return mean * scale + center, np.sqrt(np.maximum(deviation**2 - noise, 0.0)) * scale

    return predict, math.sqrt(noise) * scale
