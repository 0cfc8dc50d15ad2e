"""Where a transient ends, and whether a window drifts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from objectives import RequestRecord
from optimize.load.steady_state import backlog, drift, in_flight, steady_since_s, truncation


def noise(n: int, seed: int, mean: float = 1.0, sd: float = 0.2) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(mean, sd) for _ in range(n)]


def records(latencies: Sequence[float], every_s: float = 0.1) -> list[RequestRecord]:
    return [
        RequestRecord(0, i * every_s, i * every_s, None, i * every_s + latency, 1, 1, "", None)
        for i, latency in enumerate(latencies)
    ]


def test_a_slow_start_is_cut_and_little_more() -> None:
    slow = [5 * math.exp(-i / 15) for i in range(300)]
    cuts = [truncation([a + b for a, b in zip(noise(300, seed), slow, strict=True)]) for seed in range(50)]
    assert sum(cut is not None and 30 <= cut <= 120 for cut in cuts) >= 45


def test_a_slow_start_is_not_mistaken_for_the_steady_state_while_it_lasts() -> None:
    slow = [5 * math.exp(-i / 60) for i in range(40)]
    cuts = [truncation([a + b for a, b in zip(noise(40, seed), slow, strict=True)]) for seed in range(50)]
    assert sum(cut is None for cut in cuts) >= 45


def test_most_of_a_steady_series_is_kept_and_few_such_series_look_unsettled() -> None:
    cuts = [truncation(noise(200, seed)) for seed in range(100)]
    assert all(cut is None or cut <= 100 for cut in cuts)
    assert sum(cut is None for cut in cuts) <= 5


def test_a_series_that_still_falls_has_not_settled() -> None:
    assert truncation([10 - 0.1 * i for i in range(90)]) is None


def test_a_short_series_has_not_settled() -> None:
    assert truncation(noise(29, 0)) is None
    assert truncation(noise(30, 0)) is not None


def test_requests_in_flight_together_count_as_one_observation() -> None:
    # Rounds of 16 that share their latency: by fives, the two alike at the end would look settled early.
    rounds = [4.0, 2.0, 1.0, 1.1, 0.9, 1.1, 0.9, 1.1, 0.9, 1.0]
    assert truncation([latency for latency in rounds for _ in range(16)], in_flight=16) == 32
    assert truncation([1.0] * 95, in_flight=16) is None  # six rounds it takes, whatever the number of requests


def test_the_steady_state_begins_with_a_request_and_only_answered_ones_are_looked_at() -> None:
    latencies = [5.0] * 20 + noise(100, 1)
    since = steady_since_s(records(latencies), answered_until_s=math.inf, in_flight=1)
    assert since == pytest.approx(2.0)
    assert steady_since_s(records(latencies), answered_until_s=2.5, in_flight=1) is None


@pytest.mark.parametrize("seed", range(20))
def test_steady_windows_do_not_drift(seed: int) -> None:
    assert drift(records(noise(200, seed)), 1, 0.001) is None


def test_a_window_that_drifts_says_from_where_to_where() -> None:
    change = drift(records(noise(100, 0) + noise(100, 1, mean=1.5)), 1, 0.001)
    assert change is not None and change.second_s > change.first_s
    assert str(change) == "mean latency went from 0.983 to 1.49 s within the window"


def test_no_drift_is_looked_for_at_significance_zero() -> None:
    assert drift(records(noise(100, 0) + noise(100, 1, mean=1.5)), 1, 0.0) is None


def test_a_small_drift_is_negligible_even_if_significant() -> None:
    assert drift(records(noise(500, 0, sd=0.001) + noise(500, 1, mean=1.04, sd=0.001)), 1, 0.001) is None


def test_two_rounds_in_each_half_are_too_few_for_a_drift() -> None:
    values = [1.0] * 32 + [2.0] * 32
    assert drift(records(values), 16, 0.001) is None
    assert drift(records(values), 4, 0.001) is not None


def test_requests_in_flight_are_counted_by_their_overlap() -> None:
    requests = [RequestRecord(0, due, due, None, done, 1, 1, "", None) for due, done in ((0, 4), (1, 3), (9, 20))]
    assert in_flight(requests, 0, 10) == pytest.approx((4 + 2 + 1) / 10)
    assert in_flight(requests, 5, 5) == 0.0


@pytest.mark.parametrize(("due", "ended"), [(100, 100), (100, 71), (100, 130), (1000, 906), (4, 0)])
def test_a_difference_within_chance_is_no_backlog(due: int, ended: int) -> None:
    assert backlog(due, ended) is None


def test_requests_that_pile_up_are_a_backlog() -> None:
    assert backlog(160, 28) == "requests pile up: 160 were due within the window, and 28 ended"
    assert backlog(1000, 890) is not None
