"""Levels of repeated looks: the error over all of them is what was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

from optimize.guard.sequential import LEAST_ROUNDS, level, quantile


def levels(rounds: int, error: float, power: float = 1.0) -> list[float]:
    """Level of each look, the error spent in proportion to a power of the rounds so far."""
    shares = [(look / rounds) ** power for look in range(LEAST_ROUNDS, rounds + 1)]
    return [level(tuple(shares[: n + 1]), error) for n in range(len(shares))]


@pytest.mark.parametrize(("rounds", "error"), [(LEAST_ROUNDS, 0.05), (12, 0.05), (30, 0.0125)])
def test_boundaries_are_crossed_as_often_as_the_error_says(rounds: int, error: float) -> None:
    """Of sums of normal values of known variance; three quarters of the error are spent."""
    values = np.random.default_rng(0).standard_normal((60_000, rounds), dtype=np.float32)
    z = values.cumsum(1)[:, LEAST_ROUNDS - 1 :] / np.sqrt(np.arange(LEAST_ROUNDS, rounds + 1))
    crossed = (z > -ndtri(np.array(levels(rounds, error)))).any(1).mean()
    spent = 0.75 * error
    assert crossed == pytest.approx(spent, abs=4 * math.sqrt(spent / len(values)))


def test_the_error_holds_where_the_variance_is_estimated() -> None:
    """A single look at 5 % after every round would err three times as often."""
    rounds, error, rng = 12, 0.05, np.random.default_rng(1)
    values = rng.standard_normal((20_000, rounds))
    at_once, by_levels = np.zeros(len(values), bool), np.zeros(len(values), bool)
    for look, share in enumerate(levels(rounds, error), LEAST_ROUNDS):
        so_far = values[:, :look]
        t = so_far.mean(1) / so_far.std(1, ddof=1) * math.sqrt(look)
        at_once |= t > quantile(error, look - 1)
        by_levels |= t > quantile(share, look - 1)
    assert by_levels.mean() < error < at_once.mean() / 2


def test_one_look_spends_all_at_once() -> None:
    assert level((1.0,), 0.05) == pytest.approx(0.0375, rel=0.01)


def test_what_early_looks_leave_the_last_one_has() -> None:
    assert levels(12, 0.05, power=3.0)[-1] > levels(12, 0.05)[-1] > levels(12, 0.05, power=0.3)[-1]
    assert level((0.5, 0.5), 0.05) < 1e-6  # nothing is left for a look that comes at the same time


def test_the_quantile_is_students_where_the_degrees_of_freedom_are_few() -> None:
    assert quantile(0.05, math.inf) == pytest.approx(1.645, abs=0.001)
    assert quantile(0.05, 2) == pytest.approx(2.920, abs=0.001)
