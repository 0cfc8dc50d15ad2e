"""The search for a capacity, on simulated engines whose capacity is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from optimize.capacity import Capacity, Enough, Kind, Probe, ProbeRun, Quantity, Search, Slo, SloLimit, Unit, estimate
from optimize.testing.simulated_engines import BatchShape, SimulatedBatch, SimulatedCliff, SimulatedQueue

TTFT = Slo((SloLimit(Quantity.TTFT, 0.5, 0.95),))
SEARCH = Search(Unit.PER_S, 1.0, 400.0)
CLIFF, QUEUE = SimulatedCliff(24.0), SimulatedQueue(8, 20.0)


def _covers(capacity: Capacity, truth: float) -> bool:
    return capacity.low <= truth <= capacity.high


def test_a_cliff_is_found_within_seconds_of_load() -> None:
    capacity = estimate(CLIFF.prober(3), TTFT, SEARCH)
    assert capacity.kind is Kind.BRACKETED and capacity.binds == "ttft_s"
    assert _covers(capacity, 24.0) and capacity.high - capacity.low <= 0.2 * capacity.value
    assert capacity.load_s < 120


def test_a_search_may_start_far_from_the_capacity() -> None:
    for first in (0.1, 300.0):
        capacity = estimate(CLIFF.prober(4), TTFT, replace(SEARCH, first=first, lowest=0.05))
        assert _covers(capacity, 24.0)


def test_the_interval_covers_the_capacity_of_a_queue_as_often_as_it_says() -> None:
    """At least 16 of 20: fewer are seen in one of 400 such tests if 95 % is true, and in most of them if it is 75 %."""
    search = Search(Unit.PER_S, 8.0, 40.0, precision=0.25, most_s=400.0)
    truth = QUEUE.capacity(0.5, 0.9)
    slo = Slo((SloLimit(Quantity.TTFT, 0.5, 0.9),))
    capacities = [estimate(QUEUE.prober(seed), slo, search, seed) for seed in range(20)]
    assert sum(_covers(c, truth) for c in capacities) >= 16
    assert np.median([c.value for c in capacities]) == pytest.approx(truth, rel=0.1)
    assert np.median([c.high - c.low for c in capacities]) < 0.6 * truth
    pairs = zip(capacities[::2], capacities[1::2], strict=True)
    assert sum(a.differs_from(b) for a, b in pairs) <= 2


def test_capacities_of_different_engines_differ() -> None:
    one, other = (estimate(SimulatedCliff(rate).prober(1), TTFT, SEARCH) for rate in (12.0, 24.0))
    assert one.differs_from(other) and other.differs_from(one) and not one.differs_from(one)


def test_a_fast_engine_is_loaded_until_the_queue_of_an_overload_shows() -> None:
    """It answers 57 requests/s, so that the 300 of a P99 are sent in 5 s; the queue of an overload takes longer."""
    engine = SimulatedBatch(BatchShape(32, 0.004, 0.0003, (16, 64)))
    slo = Slo((SloLimit(Quantity.LATENCY, 2.0),))
    search = Search(Unit.PER_S, 5.0, 400.0, precision=0.15, most_s=60.0)
    capacities = [estimate(engine.prober(seed), slo, search, seed) for seed in range(5000, 5020)]
    assert sum(c.low > 58.0 for c in capacities) <= 1
    assert sum(_covers(c, 57.3) for c in capacities) >= 17


def test_users_are_whole() -> None:
    engine = SimulatedBatch(BatchShape(slots=8), users=True)
    capacity = estimate(engine.prober(1), TTFT, Search(Unit.USERS, 1, 100, most_s=120.0))
    assert all(x == int(x) for x in (capacity.value, capacity.low, *(p.level for p in capacity.probes)))
    assert 8 <= capacity.low <= capacity.value <= capacity.high <= 20


def test_an_engine_that_never_keeps_the_slo_has_capacity_zero() -> None:
    capacity = estimate(CLIFF.prober(1), Slo((SloLimit(Quantity.TTFT, 0.1),)), SEARCH)
    assert (capacity.kind, capacity.value, capacity.low, capacity.binds) == (Kind.ZERO, 0.0, 0.0, "ttft_s")
    assert capacity.probes[-1].level == SEARCH.floor


def test_an_slo_that_holds_at_the_clients_reach_gives_a_least_capacity() -> None:
    capacity = estimate(CLIFF.prober(1), TTFT, Search(Unit.PER_S, 1.0, 10.0))
    assert (capacity.kind, capacity.value, capacity.binds) == (Kind.AT_LEAST, 10.0, "client")
    assert math.isinf(capacity.high)


@dataclass
class Altered:
    """A prober whose runs are altered; counts them."""

    inner: Callable[[float, Enough, float], ProbeRun]
    alter: Callable[[float, ProbeRun], ProbeRun]

    def __call__(self, level: float, enough: Enough, most_s: float) -> ProbeRun:
        return self.alter(level, self.inner(level, enough, most_s))


def test_where_the_client_does_not_keep_up_the_engine_is_not_blamed() -> None:
    prober = Altered(CLIFF.prober(1), lambda level, run: replace(run, client_kept_up=level < 12))
    capacity = estimate(prober, TTFT, SEARCH)
    assert capacity.kind is Kind.AT_LEAST and capacity.binds == "client"
    assert 4 < capacity.value < 12


def test_failed_requests_can_bind() -> None:
    def fail(level: float, run: ProbeRun) -> ProbeRun:
        rng = np.random.default_rng(round(level * 1000))
        failed = rng.random(len(run.requests)) < (0.2 if level > 15 else 0.0)
        return replace(run, requests=replace(run.requests, failed=failed))

    capacity = estimate(Altered(CLIFF.prober(1), fail), Slo((SloLimit(Quantity.TTFT, 0.5, 0.5),)), SEARCH)
    assert capacity.binds == "errors" and _covers(capacity, 15.0)


def test_of_a_joint_share_the_limit_that_most_requests_miss_binds() -> None:
    limits = (SloLimit(Quantity.TTFT, 5.0), SloLimit(Quantity.TPOT, 0.03))
    search = Search(Unit.PER_S, 4.0, 100.0, precision=0.2, most_s=120.0)
    capacity = estimate(SimulatedBatch().prober(1), Slo(limits, joint_share=0.95), search)
    assert capacity.binds == "tpot_s" and _covers(capacity, 12.6)


def test_a_search_is_given_up_where_the_incumbents_load_breaks_the_slo_by_far() -> None:
    capacity = estimate(CLIFF.prober(1), TTFT, replace(SEARCH, incumbent=60.0))
    assert (capacity.kind, capacity.low, capacity.value, capacity.high) == (Kind.AT_MOST, 0.0, 60.0, 60.0)
    assert len(capacity.probes) == 1 and capacity.load_s < 10


def test_a_search_goes_on_from_the_incumbents_load_where_the_slo_holds() -> None:
    capacity = estimate(CLIFF.prober(1), TTFT, replace(SEARCH, incumbent=20.0))
    assert capacity.probes[0].level == 20.0 and _covers(capacity, 24.0)


def test_a_budget_that_ends_before_the_slo_breaks_gives_the_highest_level_that_held() -> None:
    capacity = estimate(CLIFF.prober(1), TTFT, replace(SEARCH, most_s=15.0))
    assert (capacity.kind, capacity.binds) == (Kind.AT_LEAST, None)
    assert capacity.value == capacity.probes[-1].level < 24.0


def test_a_search_ends_with_its_budget() -> None:
    search = replace(SEARCH, most_s=40.0, precision=0.01)
    capacity = estimate(QUEUE.prober(1), TTFT, search)
    assert 38 <= capacity.load_s <= 40 + search.probe_least_s
    assert capacity.high - capacity.low > 0.02 * capacity.value


def test_a_request_that_was_late_at_a_low_load_does_not_decide() -> None:
    """One of the first requests of a fresh engine is slow."""
    started: list[float] = []

    def slow_first(level: float, run: ProbeRun) -> ProbeRun:
        started.append(level)
        ttft_s = run.requests.ttft_s.copy()
        ttft_s[-2:] = 3.0 if len(started) == 2 else ttft_s[-2:]
        return replace(run, requests=replace(run.requests, ttft_s=ttft_s))

    capacity = estimate(Altered(CLIFF.prober(1), slow_first), TTFT, SEARCH)
    assert not all(share == 1 for share in capacity.probes[1].shares.values()) and capacity.probes[1].level < 4
    assert _covers(capacity, 24.0)


def test_probes_are_reported_and_searches_are_repeatable() -> None:
    seen: list[Probe] = []
    one = estimate(CLIFF.prober(1), TTFT, SEARCH, 5, seen.append)
    assert tuple(seen) == one.probes == estimate(CLIFF.prober(1), TTFT, SEARCH, 5).probes
    assert Capacity.from_dict(one.to_dict()) == one
    assert [p.began_s for p in seen] == pytest.approx(np.cumsum([0, *(p.load_s for p in seen)])[:-1])


def test_a_drift_of_the_engine_is_told_from_its_capacity() -> None:
    """The cliff comes nearer by 1 % in 9 s of load."""
    load_s = [0.0]

    def prober(level: float, enough: Enough, most_s: float) -> ProbeRun:
        run = SimulatedCliff(24 * (1 - load_s[0] / 900)).prober(round(load_s[0]))(level, enough, most_s)
        load_s[0] += run.load_s
        return run

    capacity = estimate(prober, TTFT, replace(SEARCH, precision=0.05))
    assert _covers(capacity, 24 * (1 - load_s[0] / 1800))
    assert capacity.drift is not None and capacity.drift < 0.99
