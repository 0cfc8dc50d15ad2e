"""Schedules of requests."""

import itertools

import numpy as np
import pytest
from scipy import stats

from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals, ClosedLoop, Poisson


def _due(rate_per_s: float, seed: int, n: int) -> list[float]:
    return list(itertools.islice(Poisson(rate_per_s).due_times_s(seed), n))


def test_a_seed_always_asks_for_the_same_schedule() -> None:
    assert _due(10.0, 1, 200) == _due(10.0, 1, 200)
    assert _due(10.0, 1, 200) != _due(10.0, 2, 200)


def test_due_times_increase_from_zero() -> None:
    times = _due(50.0, 3, 1000)
    assert times[0] > 0
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("rate_per_s", [0.5, 10.0, 400.0])
def test_gaps_are_exponential_with_the_asked_for_mean(rate_per_s: float) -> None:
    gaps = np.diff(_due(rate_per_s, 4, 4000))
    assert gaps.mean() == pytest.approx(1 / rate_per_s, rel=0.06)
    assert stats.kstest(gaps, stats.expon(scale=1 / rate_per_s).cdf).pvalue > 0.01


def test_counts_per_second_vary_as_much_as_they_should() -> None:
    counts, _ = np.histogram(_due(20.0, 5, 10_000), bins=np.arange(0, 400))
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.25)  # Poisson: variance equals mean


@pytest.mark.parametrize("rate_per_s", [0.0, -1.0])
def test_a_rate_must_be_positive(rate_per_s: float) -> None:
    with pytest.raises(ConfigError, match="rate_per_s must be positive"):
        Poisson(rate_per_s)


@pytest.mark.parametrize(("users", "think_s"), [(0, 0.0), (-3, 0.0), (4, -0.5)])
def test_a_closed_loop_needs_users_and_no_negative_pause(users: int, think_s: float) -> None:
    with pytest.raises(ConfigError, match=f"got users={users}, think_s={think_s}"):
        ClosedLoop(users, think_s)


def test_descriptions_tell_profiles_apart() -> None:
    profiles: list[Arrivals] = [ClosedLoop(8), ClosedLoop(9), ClosedLoop(8, 0.5), Poisson(8.0), Poisson(8.5)]
    assert [p.describe() for p in profiles] == [
        "closed loop, 8 users",
        "closed loop, 9 users",
        "closed loop, 8 users, 0.5 s think time",
        "Poisson arrivals, 8 requests/s",
        "Poisson arrivals, 8.5 requests/s",
    ]
