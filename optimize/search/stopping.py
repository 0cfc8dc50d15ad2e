"""When to end a search: is anything left to try that a confirmation would show to be better? Pure.

The search's own Gaussian process, fitted to the logarithm of the score, is drawn from, jointly at the points that were
tried and at those that are left. In each draw a point that is left counts with the probability that it keeps the
constraints. The chance that the best of these exceeds the best trial by more than the standard error of a confirmed
gain decides (after Wilson, "Stopping Bayesian optimization with probabilistic regret bounds", 2024, with what a
confirmation can tell as the bound): a smaller gain could not be told from chance.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution, IntDistribution

from objectives import Estimate
from objectives.intervals import log_half
from optimize.search.acquisition import log_feasibility
from optimize.search.designs import grid_values
from optimize.search.encoding import Array, Canonical, Encoding, Point, Space, point_key
from optimize.search.gaussian_process import GaussianProcess
from optimize.search.history import ratios_to_limits

LEAST_TRIALS = 12
CHANCE = 0.25
"""Below this chance of something better a search ends."""
_LEAST_FEASIBLE = 3
_SEED, _DRAWS, _MOST, _POINTS, _NEAR = 0, 256, 2000, 300, 20
_LEAST_CHANCE = 0.01
_Z = 1.96
"""Half of a 95 % interval in standard errors."""


@dataclass(frozen=True)
class ScoredTrial:
    """One trial as the criterion sees it.

    Attributes:
        params: Knob -> value.
        score: From two independent readings, its own and the baseline's; None where it is infeasible.
        constraints: Constraint -> by which share of its limit it is broken.
        measured: Whether it gave figures; without them it tells only which constraints it broke.
    """

    params: Mapping[str, Any]
    score: Estimate | None
    constraints: Mapping[str, float]
    measured: bool

    @property
    def is_feasible(self) -> bool:
        """Whether there is a score whose logarithm can be taken."""
        return self.score is not None and self.score.value > 0


@dataclass(frozen=True)
class StoppingCriterion:
    """Whether a search should end.

    Attributes:
        chance: Probability that a point is left which exceeds the best so far by more than the standard error.
        standard_error: Of a gain that was confirmed, in logarithms of the score.
    """

    chance: float
    standard_error: float

    @property
    def met(self) -> bool:
        """Whether nothing that is better, and could be shown to be, is likely to be left."""
        return self.chance < CHANCE


def stopping_criterion(
    space: Space, trials: Sequence[ScoredTrial], rounds: int, canonical: Canonical = dict,
    saturation: Mapping[str, float] | None = None,
) -> StoppingCriterion:  # fmt: skip
    """The chance of something better, beside the noise of confirming it.

    Args:
        space: Knob -> distribution.
        trials: All trials of the search.
        rounds: How often a confirmation measures the baseline and each candidate.
        canonical: Puts the points of equal engines to one point, and forbidden points to permitted ones.
        saturation: Knob -> a value beyond which more of it changes little.
    """
    gains, noise = drawn_gains(space, trials, canonical, saturation)
    # A model takes the noise of few trials for structure; their own intervals show it. The baseline's score is exact.
    scores = [t.score for t in trials if t.score is not None and t.is_feasible]
    claimed = [half / _Z / math.sqrt(2) for score in scores if (half := log_half(score)) > 0]
    noise = max(noise, statistics.median(claimed)) if claimed else noise
    standard_error = noise * math.sqrt(2 / rounds)
    return StoppingCriterion(float(np.mean(gains > standard_error)), standard_error)


def drawn_gains(
    space: Space, trials: Sequence[ScoredTrial], canonical: Canonical = dict,
    saturation: Mapping[str, float] | None = None,
) -> tuple[Array, float]:  # fmt: skip
    """By how much the best point that is left exceeds the best trial, and the noise of a reading.

    Returns:
        (gains, standard deviation of the noise), both in logarithms of the score; gains of shape (draws,). They are
        infinite where fewer than three trials are feasible, and minus infinity where no point is left.
    """
    space = {name: distribution for name, distribution in space.items() if not distribution.single()}
    feasible = [t for t in trials if t.is_feasible]
    if len(feasible) < _LEAST_FEASIBLE:
        return np.full(_DRAWS, math.inf), 0.0
    encoding, rng = Encoding(space, saturation), np.random.default_rng(_SEED)
    tried = encoding.rows([t.params for t in feasible])
    model = GaussianProcess(tried, _log_scores(feasible), encoding.categorical)
    rows = encoding.rows(_untried(space, trials, canonical))
    rows, chances = _most_promising(model, rows, _chances(encoding, trials, rows))
    draws = model.sample(np.vstack([rows, tried]), _DRAWS, rng)
    left, best = draws[:, : len(rows)], draws[:, len(rows) :].max(axis=1)
    left = np.where(rng.random(left.shape) < chances, left, -np.inf)
    return left.max(axis=1, initial=-np.inf) - best, model.noise


def _log_scores(trials: Sequence[ScoredTrial]) -> Array:
    return np.array([math.log(t.score.value) for t in trials if t.score is not None])


def _untried(space: Space, trials: Sequence[ScoredTrial], canonical: Canonical) -> list[Point]:
    """The points left to try, of a grid: between its values a figure changes little, and a trial stands for the nearest
    point. Of a large grid they are a sample, with all that differs from the best trials in one knob.
    """
    values = {name: grid_values(distribution) for name, distribution in space.items()}
    ranked = sorted(trials, key=lambda t: -t.score.value if t.score else 0.0)
    tried = [_nearest(space, values, t.params) for t in ranked]
    if math.prod(map(len, values.values())) <= _MOST:
        points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    else:
        rng = random.Random(_SEED)
        points = [{name: rng.choice(choices) for name, choices in values.items()} for _ in range(_MOST // 2)]
        points += [{**best, name: v} for best in tried[:_NEAR] for name, choices in values.items() for v in choices]
    distinct = {point_key(p): p for p in map(canonical, points)}
    left = distinct.keys() - {point_key(canonical(p)) for p in tried}
    return [point for key, point in distinct.items() if key in left]


def _nearest(space: Space, values: Mapping[str, Sequence[Any]], params: Mapping[str, Any]) -> Point:
    """The point of a grid that is nearest to a trial's."""
    point: Point = {}
    for name, distribution in space.items():
        value = params[name]
        if isinstance(distribution, IntDistribution | FloatDistribution):
            value = _closest(values[name], value, distribution.log)
        point[name] = value
    return point


def _closest(values: Sequence[Any], value: float, log: bool) -> Any:
    scale = math.log if log else float
    return min(values, key=lambda v: abs(scale(v) - scale(value)))


def _chances(encoding: Encoding, trials: Sequence[ScoredTrial], rows: Array) -> Array:
    """Probability that points keep every constraint, shape (points,)."""
    if not len(rows):
        return np.ones(0)
    tried = encoding.rows([t.params for t in trials])
    ratios = ratios_to_limits([t.constraints for t in trials], [t.measured for t in trials])
    models = [GaussianProcess(tried[i], values, encoding.categorical) for i, values in ratios.values()]
    return np.exp(log_feasibility(models, rows))


def _most_promising(model: GaussianProcess, rows: Array, chances: Array) -> tuple[Array, Array]:
    """As many points as can be drawn jointly: those that may run, by what they may reach times their chance."""
    rows, chances = rows[chances >= _LEAST_CHANCE], chances[chances >= _LEAST_CHANCE]
    if len(rows) <= _POINTS:
        return rows, chances
    mean, deviation = model.predict(rows)
    reach = mean + _Z * deviation + np.log(chances)
    best = np.argsort(-reach)[:_POINTS]
    return rows[best], chances[best]
