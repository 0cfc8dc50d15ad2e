"""When to end a search: is the gain to expect from more trials below the noise of a confirmed one? Pure.

The search's own Gaussian process, fitted to the logarithm of the score, gives the expected simple regret: by how much
the best point of the whole space exceeds the best one found, on average over draws from the posterior (Ishibashi,
Karasuyama, Takeuchi and Hino, "A stopping criterion for Bayesian optimization by the gap of expected minimum simple
regrets", 2023). Points that are probably infeasible do not count. The gain is held against the standard error of a
confirmed gain: a smaller gain could not be told from chance.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from objectives import Estimate
from objectives.intervals import log_half
from optimize.search.designs import grid_values, scattered
from optimize.search.encoding import Array, Encoding, Space
from optimize.search.gaussian_process import GaussianProcess

LEAST_TRIALS = 12
_LEAST_FEASIBLE = 3
_SEED, _DRAWS, _GRID, _POINTS = 0, 256, 2000, 500
_Z = 1.96
"""Half of a 95 % interval in standard errors."""


@dataclass(frozen=True)
class StoppingCriterion:
    """Whether a search should end; both figures are in logarithms of the score.

    Attributes:
        gain: Expected from searching on to the best point of the space.
        standard_error: Of a gain that was confirmed.
    """

    gain: float
    standard_error: float

    @property
    def met(self) -> bool:
        """Whether the expected gain could not be told from chance."""
        return self.gain < self.standard_error


def stopping_criterion(
    space: Space, params: Sequence[Mapping[str, Any]], scores: Sequence[Estimate | None], rounds: int
) -> StoppingCriterion:
    """The gain to expect from more trials, beside the noise of confirming it.

    Args:
        space: Knob -> distribution.
        params: Knob -> value of each trial.
        scores: Its score, each from two independent readings (its own and the baseline's); None where infeasible.
        rounds: How often a confirmation measures each of the two.
    """
    positive = [score if score is not None and score.value > 0 else None for score in scores]
    gain, noise = expected_regret(space, params, [None if s is None else math.log(s.value) for s in positive])
    # A model takes the noise of few trials for structure; their own intervals show it. The baseline's score is exact.
    claimed = [half / _Z / math.sqrt(2) for s in positive if s is not None and (half := log_half(s)) > 0]
    noise = max(noise, statistics.median(claimed)) if claimed else noise
    return StoppingCriterion(gain, noise * math.sqrt(2 / rounds))


def expected_regret(
    space: Space, params: Sequence[Mapping[str, Any]], log_scores: Sequence[float | None]
) -> tuple[float, float]:
    """Expected gap between the best point of the space and the best trial, and the noise of a reading.

    Args:
        space: Knob -> distribution.
        params: Knob -> value of each trial.
        log_scores: Logarithm of its score; None where it is infeasible.

    Returns:
        (regret, standard deviation of the noise), both in logarithms of the score; the regret is infinite where fewer
        than three trials are feasible.
    """
    feasible = np.array([score is not None for score in log_scores])
    if feasible.sum() < _LEAST_FEASIBLE:
        return math.inf, 0.0
    space = {name: distribution for name, distribution in space.items() if not distribution.single()}
    encoding = Encoding(space)
    tried, values = encoding.rows(params), np.array([score for score in log_scores if score is not None])
    model = GaussianProcess(tried[feasible], values, encoding.categorical)
    grid = _grid(space, encoding)
    if not feasible.all():
        feasibility = GaussianProcess(tried, feasible.astype(float), encoding.categorical)
        grid = grid[feasibility.predict(grid)[0] > 0.5]
    rng = np.random.default_rng(_SEED)
    if len(grid) > _POINTS:
        grid = grid[rng.choice(len(grid), size=_POINTS, replace=False)]
    best = model.predict(tried[feasible])[0].max()
    draws = model.sample(np.vstack([grid, tried[feasible]]), _DRAWS, rng)
    return max(0.0, float(draws.max(axis=1).mean() - best)), model.noise


def _grid(space: Space, encoding: Encoding) -> Array:
    """Encoded grid of the space, or as many random points as it may have where it would be larger."""
    values = [grid_values(distribution) for distribution in space.values()]
    if math.prod(map(len, values)) > _GRID:
        return encoding.rows(scattered(space, _GRID, np.random.RandomState(_SEED)))
    return encoding.rows([dict(zip(space, point, strict=True)) for point in itertools.product(*values)])
