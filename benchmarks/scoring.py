"""Scores of a replayed study, judged by the whole table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ground_truth import DIRECTIONS, Key, Table, as_estimates, is_measured, key_of
from benchmarks.live_space import SATURATION, SPACE, params_of
from benchmarks.replay import Step, candidates, constraints
from benchmarks.tabular import BASELINE, GRID
from optimize.decision.recommendation import Candidate, SingleReadings, recommend
from optimize.pareto import spread
from optimize.search.stopping import LEAST_TRIALS, ScoredTrial, stopping_criterion

ROUNDS = 3
"""Of a confirmation, as configured by default."""


def shares(steps: Sequence[Step], measurements: Table) -> list[float]:
    """After each trial: the hypervolume found, as a share of the table's."""
    return [measurements.hypervolume(s.key for s in steps[: n + 1]) / measurements.best for n in range(len(steps))]


def trials_to(share: float, reached_shares: Sequence[float]) -> int | None:
    """How many trials it took to a share of the hypervolume; None where it was not reached."""
    return next((n for n, reached in enumerate(reached_shares, start=1) if reached >= share), None)


def repeated_failures(steps: Sequence[Step]) -> int:
    """Number of trials whose point had failed to give a measurement before, and failed again."""
    failed, repeats = set[Key](), 0
    for step in steps:
        if not is_measured(step.row):
            repeats += step.key in failed
            failed.add(step.key)
    return repeats


@dataclass(frozen=True)
class Stop:
    """Where `search.until=noise` would have ended a study.

    Attributes:
        trials: Number of trials before the end.
        regret: Shortfall of the best score so far from the table's best, as a share of it.
        chance: That something is left to try which is better by more than a confirmation can tell.
    """

    trials: int
    regret: float
    chance: float


def stop(
    steps: Sequence[Step], measurements: Table, p99_max_s: float, weights: dict[str, float], since: int = LEAST_TRIALS
) -> Stop | None:
    """The end of a study by `search.until=noise`, from `since` trials on; None where it would have gone on."""
    for n in range(since, len(steps) + 1):
        recommendation = recommend(candidates(steps[:n], p99_max_s), DIRECTIONS, weights)
        if recommendation is None:
            continue
        scores = {c.number: recommendation.scores[c.number] for c in recommendation.considered if c.feasible}
        trials = [
            ScoredTrial(params_of(dict(zip(GRID, s.key, strict=True))), scores.get(i), broken, is_measured(s.row))
            for i, (s, broken) in enumerate(zip(steps[:n], constraints(steps[:n], p99_max_s), strict=True))
        ]
        criterion = stopping_criterion(SPACE, trials, ROUNDS, saturation=SATURATION)
        if criterion.met:
            return Stop(n, regret([s.key for s in steps[:n]], measurements, weights), criterion.chance)
    return None


def regret(tried: Sequence[Key], measurements: Table, weights: dict[str, float]) -> float:
    """Shortfall of the best score among these points from the table's best, as a share of it, by the table's means."""
    return regrets(tried, measurements, weights)[-1]


def regrets(tried: Sequence[Key], measurements: Table, weights: dict[str, float]) -> list[float]:
    """The same after each of these points."""
    score = {key: true_score(key, measurements, weights) for key in measurements.feasible}
    best = itertools.accumulate((score.get(key, 0.0) for key in tried), max)
    return [1 - value / max(score.values()) for value in best]


def true_score(key: Key, measurements: Table, weights: dict[str, float]) -> float:
    """A point's score by the table's means; the baseline's is 1."""
    baseline, own = (
        Candidate(number, {}, as_estimates(measurements.truth[k]), feasible=True)
        for number, k in enumerate((key_of(BASELINE), key))
    )
    return SingleReadings(baseline, DIRECTIONS, weights).score(own).value


def best_points(steps: Sequence[Step], p99_max_s: float, weights: dict[str, float], n: int) -> list[dict[str, object]]:
    """The points that a later study would start from, as `search.warm_start` selects them."""
    recommendation = recommend(candidates(steps, p99_max_s), DIRECTIONS, weights)
    best = [c for c in recommendation.front if not c.baseline] if recommendation else []
    return [dict(best[i].params) for i in spread([c.estimates for c in best], DIRECTIONS, n)]
