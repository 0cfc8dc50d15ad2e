"""Expected gain of hypervolume."""

import math

import numpy as np
import pytest

from optimize.search.acquisition import Improvement, log_feasibility, reference_point

REFERENCE = np.array([1.0, 1.0])


class FixedModel:
    """A model with fixed predictions."""

    def __init__(self, mean: list[float], deviation: float = 1e-9) -> None:
        self._mean, self._deviation = np.array(mean), deviation

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._mean[: len(rows)], np.full(len(rows), self._deviation)


def gain(
    points: list[list[float]], front: list[list[float]], deviation: float = 1e-9, favour: list[float] | None = None
) -> np.ndarray:
    models = [FixedModel([p[i] for p in points], deviation) for i in range(len(points[0]))]
    reference = REFERENCE if len(points[0]) == 2 else np.ones(len(points[0]))
    rows, weights = np.zeros((len(points), 1)), np.array(favour or [0.0] * len(points))
    improvement = Improvement(models, np.array(front), reference, np.random.RandomState(0))  # type: ignore[arg-type]
    return np.exp(improvement.logs(rows, weights))


def test_the_gain_of_a_point_that_is_certain_is_the_area_it_adds() -> None:
    front = [[0.2, 0.6], [0.6, 0.2]]
    gains = gain([[0.4, 0.4], [0.7, 0.7], [0.1, 0.1]], front)
    # 0.4, 0.4 adds a square; 0.7, 0.7 is beaten; 0.1, 0.1 leaves only what the front had already
    assert gains == pytest.approx([0.04, 0.0, 0.81 - (0.32 + 0.32 - 0.16)], abs=1e-6)


def test_points_beyond_the_reference_gain_nothing() -> None:
    assert gain([[0.1, 1.2]], [[0.5, 0.5]])[0] < 1e-9


def test_the_gain_of_a_single_objective_is_its_improvement() -> None:
    assert gain([[0.3], [0.6]], [[0.5], [0.8]]) == pytest.approx([0.2, 0.0], abs=1e-6)


def test_uncertainty_has_value_where_the_expected_point_is_dominated() -> None:
    beaten, front = [[0.65, 0.65]], [[0.6, 0.6]]
    assert gain(beaten, front)[0] < 1e-6 < gain(beaten, front, deviation=0.1)[0]


def test_many_points_that_would_gain_most_and_cannot_run_do_not_keep_out_one_that_can() -> None:
    hopeless = 1000
    gains = gain([[0.1, 0.1]] * hopeless + [[0.4, 0.4]], [[0.5, 0.5]], favour=[-700.0] * hopeless + [math.log(0.5)])
    assert gains[-1] == pytest.approx(0.5 * (0.36 - 0.25), abs=1e-6) and np.argmax(gains) == hopeless


def test_the_reference_leaves_room_for_points_worse_in_one_objective_than_all_so_far() -> None:
    front, likely = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[3.0, -1.0]])
    assert reference_point(front, likely) == pytest.approx([3.3, 1.2])
    assert reference_point(front, np.empty((0, 2))) == pytest.approx([1.1, 1.1])


def test_the_probability_of_keeping_all_constraints_is_the_product() -> None:
    logs = log_feasibility([FixedModel([0.0, -9.0], 1.0), FixedModel([0.0, -9.0], 1.0)], np.zeros((2, 1)))  # type: ignore[list-item]
    assert logs == pytest.approx([math.log(0.25), 0.0], abs=1e-6)
    assert log_feasibility([], np.zeros((2, 1))).tolist() == [0.0, 0.0]
