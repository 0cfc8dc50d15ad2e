"""Points chosen without a model, and the grid that tries all of them."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.search.designs import filling, grid_values, neighbours, one_choice_apart, outwards_in, scattered
from optimize.search.grid_sampler import grid
from optimize.search.optuna_compat import distribution_contains

optuna.logging.set_verbosity(optuna.logging.WARNING)
MIXED: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(["fp16", "int8", "int4"]),
    "batch_size": IntDistribution(1, 256, log=True),
    "workers": IntDistribution(1, 2),
    "share": FloatDistribution(0.5, 0.9, step=0.1),
}


def test_the_first_points_take_every_choice_and_every_stretch_equally_often() -> None:
    points = filling(MIXED, 12, np.random.RandomState(0))
    assert len(points) == 12
    assert Counter(p["quantization"] for p in points) == {"fp16": 4, "int8": 4, "int4": 4}
    assert Counter(p["workers"] for p in points) == {1: 6, 2: 6}
    doublings = sorted(math.log2(p["batch_size"]) for p in points)
    assert all(low - 0.6 <= 8 * i / 12 <= low + 0.8 for i, low in enumerate(doublings))
    for point in points:
        assert all(distribution_contains(d, point[name]) for name, d in MIXED.items())
        assert type(point["batch_size"]) is int and type(point["workers"]) is int
        assert type(point["share"]) is float


def test_points_one_choice_apart_leave_ordered_knobs_alone() -> None:
    point = {"quantization": "int8", "batch_size": 2, "workers": 1, "share": 0.5}
    apart = one_choice_apart(MIXED, point)
    assert apart == [point | {"quantization": "fp16"}, point | {"quantization": "int4"}]


def test_scattered_points_and_neighbours_are_points_of_the_space() -> None:
    rng = np.random.RandomState(0)
    points = scattered(MIXED, 20, rng)
    near = neighbours(MIXED, points, rng)
    assert len(near) == 20 * 4 * len(MIXED)
    for point in points + near:
        assert all(distribution_contains(d, point[name]) for name, d in MIXED.items())
    assert all(sum(p[n] != points[0][n] for n in MIXED) <= 1 for p in near[: 4 * len(MIXED)])


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (CategoricalDistribution([4, 1, 2, 8]), 1, [8, 4, 2]),
        (CategoricalDistribution([1, 2]), 2, [1]),
        (CategoricalDistribution(["a", "b"]), "a", []),
        (IntDistribution(1, 256, log=True), 256, [1, 11, 54, 118]),
        (IntDistribution(1, 2), 1, [2]),
        (FloatDistribution(0.0, 1.0), 0.0, [1.0, 0.5, 0.25, 0.125]),
    ],
)
def test_values_from_the_far_end_inwards(distribution: BaseDistribution, value: Any, expected: list[Any]) -> None:
    assert outwards_in(distribution, value) == pytest.approx(expected)


# Grids


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (IntDistribution(1, 2), [1, 2]),
        (IntDistribution(3, 3), [3]),
        (IntDistribution(1, 5), [1, 2, 3, 4, 5]),
        (IntDistribution(0, 100), [0, 25, 50, 75, 100]),
        (IntDistribution(32, 128, step=32), [32, 64, 96, 128]),
        (IntDistribution(1, 256, log=True), [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        (IntDistribution(4, 100, log=True), [4, 8, 16, 32, 64, 100]),
        (IntDistribution(7, 7, log=True), [7]),
        (FloatDistribution(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_values_of_a_grid(distribution: BaseDistribution, values: list[Any]) -> None:
    assert grid_values(distribution) == pytest.approx(values)


def test_choices_are_their_own_grid() -> None:
    assert grid_values(CategoricalDistribution(["fp16", None, 4])) == ["fp16", None, 4]


@pytest.mark.parametrize(("low", "high", "step"), [(16, 128, 16), (0, 100, 10), (1, 64, 3), (32, 4096, 32)])
def test_a_grid_keeps_to_the_steps_of_its_range(low: int, high: int, step: int) -> None:
    distribution = IntDistribution(low, high, step=step)
    assert all((v - low) % step == 0 and low <= v <= distribution.high for v in grid_values(distribution))


@pytest.mark.parametrize(("low", "high", "step"), [(0.0, 1.0, 0.1), (0.6, 1.4, 0.2)])
def test_a_grid_keeps_to_the_steps_of_a_float_range(low: float, high: float, step: float) -> None:
    steps = [(v - low) / step for v in grid_values(FloatDistribution(low, high, step=step))]
    assert steps == pytest.approx([round(s) for s in steps])


def test_a_logarithmic_float_range_is_cut_into_equal_ratios() -> None:
    values = grid_values(FloatDistribution(0.001, 10.0, log=True))
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert (values[0], values[-1]) == pytest.approx((0.001, 10.0))
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_every_combination_is_tried_once() -> None:
    space: dict[str, BaseDistribution] = {
        "batch_size": IntDistribution(1, 8, log=True),
        "beam_size": CategoricalDistribution([1, 2, 4]),
    }
    study = optuna.create_study(sampler=grid(space, seed=1))
    asked = []
    for _ in range(12):
        trial = study.ask(space)
        asked.append((trial.params["batch_size"], trial.params["beam_size"]))
        study.tell(trial, 0.0)
    assert sorted(asked) == sorted(itertools.product([1, 2, 4, 8], [1, 2, 4]))
