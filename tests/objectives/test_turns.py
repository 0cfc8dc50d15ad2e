"""Figures by turn: medians, and the share of the prompts that was cached."""

from __future__ import annotations

import dataclasses

import pytest

from objectives import Measurement, RequestRecord
from objectives.latency import TimeToFirstToken
from objectives.turns import by_turn, cached_share
from objectives.usage import CachedPrefixShare


def request(turn: int, latency_s: float = 1.0, cached: int | None = None, prompt: int = 100) -> RequestRecord:
    return RequestRecord(0, 0.0, 0.0, latency_s / 2, latency_s, prompt, 5, "", turn=turn, cached_tokens=cached)


def test_each_turn_has_its_own_figures() -> None:
    first, second = by_turn([request(1, 1.0, 0), request(2, 0.4, 90), request(2, 0.6, 70), request(1, 3.0, 20)])
    assert (first.turn, first.requests, second.turn, second.requests) == (1, 2, 2, 2)
    assert second.latency.value <= 0.6 < first.latency.value and first.latency.unit == "s"
    assert second.ttft is not None and second.ttft.value in (0.2, 0.25, 0.3)
    assert first.cached is not None and second.cached is not None
    assert (first.cached.value, second.cached.value) == (0.1, 0.8)


def test_late_turns_are_taken_together() -> None:
    figures = by_turn([request(turn) for turn in range(1, 10)])
    assert [f.turn for f in figures] == [1, 2, 3, 4, 5, 6]
    assert [f.open_ended for f in figures] == [False] * 5 + [True] and figures[-1].requests == 4
    assert not by_turn([request(6)])[0].open_ended and by_turn([]) == []


def test_failed_requests_count_in_latency_and_not_in_what_was_cached() -> None:
    failed = dataclasses.replace(request(1, 9.0, 0), error="timeout", first_token_s=None)
    (figures,) = by_turn([failed, request(1, 1.0, 50)])
    assert figures.requests == 2 and figures.latency.high > 5.0
    assert figures.cached is not None and figures.cached.value == 0.5


def test_tokens_rather_than_requests_are_shared() -> None:
    share = cached_share([request(1, cached=0, prompt=300), request(2, cached=100, prompt=100)])
    assert share is not None and (share.value, share.n, share.unit) == (0.25, 2, "share")
    assert share.low <= 0.25 <= share.high <= 1.0


def test_the_interval_narrows_with_the_requests_and_is_none_where_all_are_alike() -> None:
    few, many = (cached_share([request(1, cached=c) for c in (20, 60) * n]) for n in (5, 500))
    alike = cached_share([request(1, cached=40)] * 9)
    assert few and many and alike and few.high - few.low > 5 * (many.high - many.low) > 0
    assert alike.low == pytest.approx(alike.high)


def test_there_is_no_share_where_the_server_does_not_say_it() -> None:
    assert cached_share([request(1), request(2)]) is None and cached_share([]) is None
    assert by_turn([request(1)])[0].cached is None


def measured(records: list[RequestRecord], series: dict[str, list[float]]) -> Measurement:
    points = {name: list(enumerate(map(float, values))) for name, values in series.items()}
    return Measurement(records, 0.0, 10.0, {}, series={n: [(float(t), v) for t, v in p] for n, p in points.items()})


def test_the_answers_come_before_the_engines_counters() -> None:
    counters = {"prefix_cache_queries": [100.0, 300.0], "prefix_cache_hits": [10.0, 60.0]}
    by_answers = CachedPrefixShare().estimate(measured([request(1, cached=90)], counters))
    by_counters = CachedPrefixShare().estimate(measured([request(1)], counters))
    assert by_answers and by_answers.value == 0.9
    assert by_counters and (by_counters.value, by_counters.low, by_counters.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("queries", [[], [100.0, 100.0]])
def test_without_either_there_is_no_figure(queries: list[float]) -> None:
    series = {"prefix_cache_queries": queries, "prefix_cache_hits": [0.0] * len(queries)}
    assert CachedPrefixShare().estimate(measured([request(1)], series)) is None


def test_time_to_first_token_can_be_that_of_later_turns() -> None:
    measurement = measured([request(1, 8.0), request(2, 2.0), request(3, 2.0)], {})
    later, every = (TimeToFirstToken(0.99, turn).estimate(measurement) for turn in (2, None))
    assert later and every and (later.value, later.n, every.n) == (1.0, 2, 3)
    assert TimeToFirstToken(0.99, 2).estimate(measured([request(1)], {})) is None
