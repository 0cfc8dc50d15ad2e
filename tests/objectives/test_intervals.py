"""Confidence intervals against published and hand-computed values, and against simulated coverage."""

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from objectives.intervals import (
    mean_interval,
    proportion_interval,
    quantile_interval,
    rate_interval,
    repeats_interval,
)

Floats = NDArray[np.float64]


def _autoregressive(n: int, weight: float, seed: int) -> list[float]:
    rng = random.Random(seed)
    series = [rng.gauss(0, 1)]
    while len(series) < n:
        series.append(weight * series[-1] + math.sqrt(1 - weight**2) * rng.gauss(0, 1))
    return series


def _width(interval: tuple[float, float, float]) -> float:
    return interval[2] - interval[1]


# Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3 (Wilson).
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_proportion_matches_newcombes_table(hits: int, n: int, low: float, high: float) -> None:
    assert proportion_interval(hits, n) == pytest.approx((hits / n, low, high), abs=5e-5)


def test_proportion_is_symmetric_in_hits_and_misses() -> None:
    share, low, high = proportion_interval(3, 40)
    assert proportion_interval(37, 40) == pytest.approx((1 - share, 1 - high, 1 - low))


def test_the_proportion_of_nothing_has_the_widest_interval() -> None:
    assert proportion_interval(0, 0) == (0.0, 0.0, 1.0)


def test_rate_interval_of_events_that_come_in_clumps_is_as_narrow_as_their_number_is_sure() -> None:
    # Four users in step, an answer every 2.5 s: batches of two seconds would hold none, four, four, none, ...
    for period_s in (1.3, 1.7, 2.5):
        times = [float(clump) + 0.01 * user for clump in np.arange(0.3, 19.9, period_s) for user in range(4)]
        rate, low, high = rate_interval(times, 0.0, 20.0)
        assert low <= 4 / period_s * 1.1 and 4 / period_s * 0.9 <= high
        assert _width((rate, low, high)) < 0.5 * rate


def test_rate_is_per_second_wherever_the_window_lies() -> None:
    times = [100 + (i + 0.5) * 0.1 for i in range(200)]
    assert rate_interval(times, 100.0, 120.0) == pytest.approx((10.0, 10.0, 10.0), rel=1e-3)


def test_rate_interval_never_goes_below_zero() -> None:
    rate, low, high = rate_interval([0.1] * 50, 0.0, 10.0)
    assert rate == pytest.approx(5.0)
    assert low == 0.0
    assert high > rate


def test_rate_of_an_idle_window_is_zero() -> None:
    assert rate_interval([], 0.0, 10.0) == (0.0, 0.0, 0.0)


def test_rate_interval_covers_the_true_rate_of_a_poisson_process() -> None:
    rng = np.random.default_rng(1)
    intervals = [rate_interval(rng.uniform(0, 10, rng.poisson(200)).tolist(), 0.0, 10.0) for _ in range(300)]
    covered = sum(low <= 20.0 <= high for _, low, high in intervals) / len(intervals)
    assert 0.91 <= covered <= 0.99


def test_rate_interval_is_as_wide_as_a_t_interval_where_counts_are_independent() -> None:
    rng = np.random.default_rng(4)
    widths = [_width(rate_interval(rng.uniform(0, 10, 500).tolist(), 0.0, 10.0)) for _ in range(300)]
    assert np.median(widths) == pytest.approx(2 * 2.365 * math.sqrt(500) / 10, rel=0.1)


def test_mean_interval_covers_the_mean_of_independent_values() -> None:
    rng = np.random.default_rng(2)
    intervals = [mean_interval(rng.normal(3.0, 2.0, 100).tolist()) for _ in range(300)]
    covered = sum(low <= 3.0 <= high for _, low, high in intervals) / len(intervals)
    assert 0.91 <= covered <= 0.99


def test_mean_interval_covers_the_mean_of_dependent_values() -> None:
    intervals = [mean_interval(_autoregressive(400, 0.8, seed)) for seed in range(300)]
    covered = sum(low <= 0.0 <= high for _, low, high in intervals) / len(intervals)
    assert 0.90 <= covered <= 0.99


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_quantile_interval_covers_the_quantile_of_independent_values(quantile: float) -> None:
    rng, true = np.random.default_rng(3), -math.log(1 - quantile)
    intervals = [quantile_interval(rng.exponential(1.0, 1000).tolist(), quantile) for _ in range(300)]
    covered = sum(low <= true <= high for _, low, high in intervals) / len(intervals)
    assert 0.91 <= covered <= 0.99


def test_quantile_interval_covers_the_quantile_of_dependent_values() -> None:
    intervals = [quantile_interval(_autoregressive(1000, 0.8, seed), 0.9) for seed in range(300)]
    true = stats.norm.ppf(0.9)
    covered = sum(low <= true <= high for _, low, high in intervals) / len(intervals)
    assert 0.90 <= covered <= 0.99


def test_mean_interval_of_few_values_is_students() -> None:
    theirs = stats.t.interval(0.95, 4, loc=3.0, scale=stats.sem([1, 2, 3, 4, 5]))
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3.0, *theirs))
    assert repeats_interval([1, 2, 3, 4, 5]) == pytest.approx((3.0, *theirs))


def test_one_repeat_is_its_own_value() -> None:
    assert repeats_interval([7.0]) == (7.0, 7.0, 7.0)


def test_dependence_widens_the_interval() -> None:
    dependent = [_autoregressive(400, 0.8, seed) for seed in range(20)]
    independent = [random.Random(5).sample(series, len(series)) for series in dependent]
    for interval in (mean_interval, lambda values: quantile_interval(values, 0.9)):
        ratio = sum(map(_width, map(interval, dependent))) / sum(map(_width, map(interval, independent)))
        assert ratio > 1.5


@pytest.mark.parametrize("values", [[4.2], [4.2] * 50])
def test_values_without_spread_have_an_interval_of_no_width(values: list[float]) -> None:
    assert mean_interval(values) == pytest.approx((4.2, 4.2, 4.2))
    assert quantile_interval(values, 0.99) == pytest.approx((4.2, 4.2, 4.2))


@pytest.mark.parametrize(("quantile", "value"), [(0.5, 50.5), (0.9, 90.1), (0.99, 99.01)])
def test_quantiles_of_one_to_a_hundred(quantile: float, value: float) -> None:
    ordered = random.Random(7).sample(range(1, 101), 100)
    estimate, low, high = quantile_interval([float(v) for v in ordered], quantile)
    assert estimate == pytest.approx(value)
    assert 1 <= low <= estimate <= high <= 100


def test_value_always_lies_within_its_interval() -> None:
    rng = random.Random(8)
    for _ in range(100):
        values = [rng.lognormvariate(0, 1.5) for _ in range(rng.randint(1, 30))]
        for value, low, high in (mean_interval(values), quantile_interval(values, rng.uniform(0.01, 0.99))):
            assert low <= value <= high


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 20), (10, 20), (20, 20), (3, 1000)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    ours = proportion_interval(hits, n)
    assert ours == pytest.approx((hits / n, theirs.low, theirs.high))
    assert 0 <= ours[1] <= ours[0] <= ours[2] <= 1
