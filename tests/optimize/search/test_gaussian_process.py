"""The model of one figure."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import check_grad

from optimize.search.gaussian_process import GaussianProcess

CATEGORICAL = np.array([True, False, False])


def rows(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return np.column_stack([rng.randint(0, 4, n), rng.random(n), rng.random(n)])


def additive(points: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.array([0.0, 2.0, -1.0, 0.5])[points[:, 0].astype(int)] + 2 * points[:, 1] ** 2
    return result


def test_effects_of_single_knobs_are_predicted_for_combinations_never_measured() -> None:
    seen = rows(24)
    seen = seen[(seen[:, 0] != 1) | (seen[:, 1] < 0.5)]  # never this choice with a high number
    model = GaussianProcess(seen, additive(seen), CATEGORICAL)
    asked = np.array([[1, 0.9, 0.3], [1, 0.8, 0.8]])
    mean, deviation = model.predict(asked)
    assert mean == pytest.approx(additive(asked), abs=0.4)
    assert (deviation < 0.6).all()


def test_measured_points_are_predicted_with_less_uncertainty_than_distant_ones() -> None:
    seen = rows(10)
    model = GaussianProcess(seen, additive(seen) + np.random.RandomState(1).normal(0, 0.05, 10), CATEGORICAL)
    far = np.array([[2.0, 3.0, 3.0]])
    assert model.predict(seen)[1].max() < model.predict(far)[1][0]


def test_a_figure_that_never_changes_is_predicted_as_it_is() -> None:
    mean, deviation = GaussianProcess(rows(6), np.full(6, 7.0), CATEGORICAL).predict(rows(3, 1))
    assert mean == pytest.approx(7.0)
    assert np.isfinite(deviation).all()


def test_points_under_way_reduce_the_deviation_and_leave_the_mean() -> None:
    seen, under_way = rows(8), np.array([[3.0, 0.9, 0.1]])
    model = GaussianProcess(seen, additive(seen), CATEGORICAL)
    mean, deviation = model.predict(under_way)
    model.fantasize(under_way)
    assert model.predict(under_way)[0] == pytest.approx(mean, abs=1e-6)
    assert model.predict(under_way)[1][0] < 0.6 * deviation[0]


def test_of_many_knobs_without_effect_little_is_expected() -> None:
    rng = np.random.RandomState(0)
    model = GaussianProcess(rng.random((40, 16)), rng.normal(0, 1, 40), np.zeros(16, dtype=bool))
    assert model.predict(rng.random((200, 16)))[0].std() < 0.4


def test_the_gradient_is_that_of_the_loss() -> None:
    seen = rows(12)
    model = GaussianProcess(seen, additive(seen), CATEGORICAL)
    prior, differences = np.full(8, -0.5), model._differences(seen, seen)
    for shift in (0.0, 0.7):
        at = prior + shift * np.sin(np.arange(8))
        wrong = check_grad(
            lambda p: model._loss(p, differences, prior)[0], lambda p: model._loss(p, differences, prior)[1], at
        )  # fmt: skip
        assert wrong < 1e-4


def test_linear_algebra_leaves_the_cores_to_the_engine() -> None:
    """In every verb's process: each imports `optimize.cli` before anything that imports numpy."""
    code = (
        "import optimize.cli, sys\n"
        "assert 'numpy' not in sys.modules\n"
        "import optimize.search.gaussian_process, optimize.evaluation.evaluator\n"
        "from threadpoolctl import threadpool_info\n"
        "print([library['num_threads'] for library in threadpool_info() if library['user_api'] == 'blas'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert set(json.loads(done.stdout)) == {1}
