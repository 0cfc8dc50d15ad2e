"""When a search should end."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from objectives import Estimate
from optimize.search.stopping import StoppingCriterion, expected_regret, stopping_criterion

SPACE: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(["fp16", "int8", "int4"]),
    "batch_size": IntDistribution(1, 32, log=True),
}
GRID: list[dict[str, Any]] = [
    {"quantization": q, "batch_size": b} for q in ("fp16", "int8", "int4") for b in (1, 2, 4, 8, 16, 32)
]
NOISE = 0.05


def _score(point: dict[str, Any]) -> float:
    """Best at INT8 and a batch of 8."""
    return -0.3 * abs(math.log2(point["batch_size"]) - 3) + (0.4 if point["quantization"] == "int8" else 0.0)


def _readings(points: list[dict[str, Any]]) -> list[float]:
    rng = random.Random(0)
    return [_score(p) + rng.gauss(0, NOISE) for p in points]


def test_regret_is_high_while_the_best_points_are_untried_and_below_the_noise_once_all_were_tried() -> None:
    few = [p for p in GRID if p["batch_size"] <= 2]
    regret_of_few, _ = expected_regret(SPACE, few, _readings(few))
    regret_of_all, noise = expected_regret(SPACE, GRID * 2, _readings(GRID * 2))
    assert regret_of_few > 3 * regret_of_all
    assert regret_of_all < noise
    assert noise == pytest.approx(NOISE, rel=0.6)


def test_points_that_are_surely_infeasible_add_no_regret() -> None:
    values = [s if p["batch_size"] <= 2 else None for p, s in zip(GRID * 2, _readings(GRID * 2), strict=True)]
    regret_of_feasible, _ = expected_regret(SPACE, GRID * 2, values)
    untried = [p for p in GRID * 2 if p["batch_size"] <= 2]
    regret_of_untried, _ = expected_regret(SPACE, untried, _readings(untried))
    assert regret_of_feasible < regret_of_untried / 2


def test_regret_is_infinite_without_three_feasible_trials() -> None:
    readings: list[float | None] = [0.0, 0.0, *[None] * (len(GRID) - 2)]
    assert expected_regret(SPACE, GRID, readings) == (math.inf, 0.0)
    assert expected_regret(SPACE, GRID, [0.0, *readings[:-1]])[0] < math.inf


def test_knobs_without_a_choice_change_nothing() -> None:
    fixed = {**SPACE, "workers": IntDistribution(2, 2, log=True)}
    points = [{**p, "workers": 2} for p in GRID]
    assert expected_regret(fixed, points, _readings(GRID)) == expected_regret(SPACE, GRID, _readings(GRID))
    regret, _ = expected_regret({"workers": IntDistribution(2, 2)}, [{"workers": 2}] * 3, [0.0, 0.1, -0.1])
    assert regret < 0.1


def test_a_space_too_large_for_a_grid_is_sampled() -> None:
    space: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(6)}
    rng = random.Random(0)
    points = [{name: rng.random() for name in space} for _ in range(20)]
    regret, _ = expected_regret(space, points, [p["x0"] for p in points])
    assert 0.0 < regret < 1.0


def _estimates(points: list[dict[str, Any]], half: float) -> list[Estimate | None]:
    values = [math.exp(score) for score in _readings(points)]
    return [Estimate(v, v * math.exp(-half), v * math.exp(half), 1, "x") for v in values]


def test_the_criterion_is_met_once_the_gain_is_below_the_error_of_confirming_it() -> None:
    assert StoppingCriterion(0.01, 0.02).met and not StoppingCriterion(0.02, 0.02).met
    few = [p for p in GRID if p["batch_size"] <= 2]
    assert not stopping_criterion(SPACE, few, _estimates(few, 0.1), rounds=3).met
    assert stopping_criterion(SPACE, GRID * 2, _estimates(GRID * 2, 0.1), rounds=3).met


def test_the_error_of_a_confirmed_gain_falls_with_its_rounds_and_is_no_less_than_readings_claim() -> None:
    three, twelve = (stopping_criterion(SPACE, GRID, _estimates(GRID, 1.0), rounds) for rounds in (3, 12))
    assert three.standard_error == pytest.approx(2 * twelve.standard_error)
    assert three.standard_error == pytest.approx(1.0 / 1.96 / math.sqrt(2) * math.sqrt(2 / 3))
    assert three.gain == twelve.gain


def test_scores_that_are_not_positive_count_as_infeasible() -> None:
    nothing = Estimate(0.0, 0.0, 0.0, 0, "x")
    assert stopping_criterion(SPACE, GRID, [nothing] * len(GRID), rounds=3).gain == math.inf
