"""Non-dominated points against the definition, pair by pair."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from objectives import Direction, Estimate
from optimize.pareto import front, hypervolumes, non_dominated, spread

Floats = NDArray[np.float64]


def _by_definition(values: Floats) -> list[bool]:
    rows = [tuple(row) for row in values]

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    return [not any(beats(other, row) for other in rows) for row in rows]


def _figures(**values: float) -> dict[str, Estimate]:
    return {name: Estimate(v, v, v, 1, "") for name, v in values.items()}


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_agrees_with_the_definition(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    for points in range(1, 40):
        # Few distinct values: ties and equal rows are common.
        values = rng.integers(0, 6, size=(points, objectives)).astype(np.float64)
        assert non_dominated(values).tolist() == _by_definition(values)


def test_the_hypervolume_of_a_staircase_ignores_points_behind_it() -> None:
    values = np.array([[1.0, 4], [2, 3], [3, 2], [4, 1], [2, 4], [4, 4], [3, 3]])
    assert non_dominated(values).tolist() == [True] * 4 + [False] * 3


def test_equal_rows_are_all_kept() -> None:
    assert non_dominated(np.array([[1.0, 2], [1, 2], [1, 3]])).tolist() == [True, True, False]


def test_front_knows_which_way_each_objective_improves() -> None:
    points = [
        _figures(qps=100, p99_latency_s=2.0),
        _figures(qps=50, p99_latency_s=1.0),
        _figures(qps=50, p99_latency_s=2.0),
        _figures(qps=20, p99_latency_s=1.5),
    ]
    directions = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE}
    assert front(points, directions) == [0, 1]
    assert front(points, {name: d for name, d in directions.items() if name == "qps"}) == [0]


def test_the_first_point_comes_first_and_then_those_that_add_most_hypervolume() -> None:
    """A staircase from cheap to fast: after one end the middle, then the other end; each objective on its own scale."""
    points = [_figures(qps=10.0**i, memory_bytes=2.0**i) for i in range(6)]
    directions = {"qps": Direction.MAXIMIZE, "memory_bytes": Direction.MINIMIZE}
    assert spread(points, directions, 2) == [0, 3]
    assert sorted(spread(points, directions, 9)) == list(range(6))
    assert spread(points, directions, 0) == spread([], directions, 2) == []


def test_only_named_objectives_count() -> None:
    points = [_figures(qps=1, preemptions=0), _figures(qps=2, preemptions=9)]
    assert front(points, {"qps": Direction.MAXIMIZE}) == [1]


def test_front_of_nothing_is_empty() -> None:
    assert front([], {"qps": Direction.MAXIMIZE}) == []


def test_front_does_not_depend_on_units_or_order() -> None:
    rng = random.Random(0)
    points = [_figures(a=rng.random(), b=rng.random(), c=rng.random()) for _ in range(60)]
    directions = {"a": Direction.MAXIMIZE, "b": Direction.MINIMIZE, "c": Direction.MINIMIZE}
    scaled = [_figures(a=p["a"].value * 1e9, b=p["b"].value * 1e-6, c=p["c"].value) for p in points]
    order = rng.sample(range(60), 60)
    assert front(scaled, directions) == front(points, directions)
    assert {order[i] for i in front([points[i] for i in order], directions)} == set(front(points, directions))


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolumes_agree_with_the_share_of_random_points_that_are_dominated(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    points, inside = rng.random((15, objectives)), rng.random((20_000, objectives))
    result = hypervolumes(points, np.ones(objectives))
    for n in (1, 5, 15):
        share = (points[:n, None, :] <= inside[None, :, :]).all(axis=2).any(axis=0).mean()
        assert result[n - 1] == pytest.approx(share, abs=0.015)
    assert result == sorted(result)


def test_a_point_beyond_the_reference_adds_nothing() -> None:
    values = np.array([[0.5, 0.5], [1.5, 0.1], [np.inf, np.inf], [0.5, 0.5], [0.25, 0.75]])
    assert hypervolumes(values, np.ones(2)) == pytest.approx([0.25, 0.25, 0.25, 0.25, 0.3125])
