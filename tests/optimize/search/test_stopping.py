"""When a search should end."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from objectives import Estimate
from optimize.search.stopping import CHANCE, ScoredTrial, StoppingCriterion, drawn_gains, stopping_criterion

SPACE: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(["fp16", "int8", "int4"]),
    "batch_size": IntDistribution(1, 32, log=True),
}
GRID_SIZES = (1, 2, 4, 8, 16, 32)
GRID: list[dict[str, Any]] = [
    {"quantization": q, "batch_size": b} for q in ("fp16", "int8", "int4") for b in GRID_SIZES
]
NOISE = 0.05


def _score(point: dict[str, Any]) -> float:
    """Best at INT8 and a batch of 8."""
    return -0.3 * abs(math.log2(point["batch_size"]) - 3) + (0.4 if point["quantization"] == "int8" else 0.0)


def _readings(points: list[dict[str, Any]]) -> list[float]:
    rng = random.Random(0)
    return [_score(p) + rng.gauss(0, NOISE) for p in points]


def _scored(points: list[dict[str, Any]], logs: list[float | None], half: float = 0.0) -> list[ScoredTrial]:
    """Trials with these logarithms of scores; one without a score was too large to be measured."""
    return [
        ScoredTrial(p, None, {"memory": 1.0}, False)
        if log is None
        else ScoredTrial(p, Estimate(math.exp(log), math.exp(log - half), math.exp(log + half), 1, "x"), {}, True)
        for p, log in zip(points, logs, strict=True)
    ]


def _trials(points: list[dict[str, Any]], half: float = 0.0) -> list[ScoredTrial]:
    return _scored(points, [*_readings(points)], half)


ALL_BUT_ONE = [p for p in GRID if p != {"quantization": "int4", "batch_size": 1}] * 2


def _chance(space: dict[str, BaseDistribution], trials: list[ScoredTrial], **knowledge: Any) -> float:
    """Probability that something is left which is better by more than the noise of one reading."""
    return float(np.mean(drawn_gains(space, trials, **knowledge)[0] > NOISE))


def test_something_better_is_likely_while_the_best_points_are_untried_and_not_once_all_others_are_known() -> None:
    assert _chance(SPACE, _trials([p for p in GRID if p["batch_size"] <= 2])) > CHANCE
    gains, noise = drawn_gains(SPACE, _trials(ALL_BUT_ONE))
    assert gains.shape == (256,) and np.all(gains < 0)
    assert noise == pytest.approx(NOISE, rel=0.6)


def test_points_that_surely_break_a_constraint_promise_nothing() -> None:
    """A batch of 16 or more does not fit; of the largest, and of two, none was tried."""
    logs = [s if p["batch_size"] <= 8 else None for p, s in zip(GRID, _readings(GRID), strict=True)]
    trials = [t for t in _scored(GRID, logs) if t.params["batch_size"] not in (2, 32)]
    assert _chance(SPACE, trials) < CHANCE / 2
    assert _chance(SPACE, [t for t in trials if t.measured]) > 2 * _chance(SPACE, trials)


def test_without_three_feasible_trials_anything_may_be_better_and_without_a_point_left_nothing() -> None:
    failed: list[float | None] = [None] * (len(GRID) - 2)
    gains, noise = drawn_gains(SPACE, _scored(GRID, [0.0, 0.0, *failed]))
    assert np.all(gains == math.inf) and noise == 0.0
    assert np.all(drawn_gains(SPACE, _trials(GRID))[0] == -math.inf)


def test_a_trial_stands_for_the_values_beside_its_own() -> None:
    beside = [{**p, "batch_size": min(p["batch_size"] + 1, 31)} for p in GRID if p["batch_size"] > 2]
    assert _chance(SPACE, _trials([*(p for p in GRID if p["batch_size"] <= 2), *beside])) == 0.0


def test_points_of_equal_engines_are_not_left_to_try() -> None:
    def canonical(point: Mapping[str, Any]) -> dict[str, Any]:
        return {**point, "quantization": "int8"} if point["quantization"] == "int4" else dict(point)

    trials = _trials([p for p in GRID if p["quantization"] != "int4"])
    assert np.all(drawn_gains(SPACE, trials, canonical)[0] == -math.inf)
    assert np.all(drawn_gains(SPACE, trials)[0] > -math.inf)


def test_knobs_without_a_choice_change_nothing() -> None:
    fixed = {**SPACE, "workers": IntDistribution(2, 2, log=True)}
    points = [{**p, "workers": 2} for p in GRID]
    assert np.array_equal(drawn_gains(fixed, _trials(points)[:9])[0], drawn_gains(SPACE, _trials(GRID)[:9])[0])
    assert _chance({"workers": IntDistribution(2, 2)}, _scored([{"workers": 2}] * 3, [0.0, 0.1, -0.1])) == 0.0


def test_a_space_too_large_to_be_listed_is_sampled_and_searched_beside_the_best() -> None:
    space: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(6)}
    rng = random.Random(0)
    points = [{name: rng.random() for name in space} for _ in range(20)]
    gains, _ = drawn_gains(space, _scored(points, [p["x0"] for p in points]))
    assert 0.0 < np.mean(gains) < 1.0


def test_more_of_a_knob_beyond_its_saturation_promises_less() -> None:
    trials = _trials([p for p in GRID if p["batch_size"] <= 8])
    usual, saturated = (drawn_gains(SPACE, trials, saturation=s)[0] for s in ({}, {"batch_size": 8}))
    assert np.std(saturated) < np.std(usual)


def test_the_criterion_is_met_once_something_better_is_unlikely() -> None:
    assert StoppingCriterion(CHANCE - 0.01, 0.02).met and not StoppingCriterion(CHANCE, 0.02).met
    few = [p for p in GRID if p["batch_size"] <= 2]
    assert not stopping_criterion(SPACE, _trials(few, 0.1), rounds=3).met
    assert stopping_criterion(SPACE, _trials(GRID * 2, 0.1), rounds=3).met


def test_the_error_of_a_confirmed_gain_falls_with_its_rounds_and_is_no_less_than_readings_claim() -> None:
    three, twelve = (stopping_criterion(SPACE, _trials(GRID[:9], 1.0), rounds) for rounds in (3, 12))
    assert three.standard_error == pytest.approx(2 * twelve.standard_error)
    assert three.standard_error == pytest.approx(1.0 / 1.96 / math.sqrt(2) * math.sqrt(2 / 3))
    assert three.chance <= twelve.chance


def test_scores_that_are_not_positive_count_as_infeasible() -> None:
    nothing = ScoredTrial(GRID[0], Estimate(0.0, 0.0, 0.0, 0, "x"), {}, True)
    assert stopping_criterion(SPACE, [nothing] * len(GRID), rounds=3).chance == 1.0
