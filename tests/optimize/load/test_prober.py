"""Probes of one engine in virtual time: their requests, those in flight too, and the clock that they share."""

from __future__ import annotations

import numpy as np
import pytest

from objectives import RequestRecord
from optimize.capacity import Quantity, Requests, Search, Slo, SloLimit, Unit, estimate
from optimize.config.measuring import Load
from optimize.engine.base import RequestConfig
from optimize.load.arrivals import Arrivals, ClosedLoop, Constant, Poisson
from optimize.load.generator import LoadControl, Traffic
from optimize.load.prober import DueTimes, LiveProber
from optimize.testing.scripted_engine import ScriptedEngine
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, VirtualClock
from tests.optimize.load.bench import WORKLOAD


def prober(latency_s: float, arrivals: Arrivals | None = None, patience_s: float | None = 2.0) -> LiveProber:
    clock = VirtualClock()
    clients = ScriptedClients(clock, lambda _: ScriptedAnswer(latency_s))
    traffic = Traffic(WORKLOAD, RequestConfig(), arrivals or Constant(1.0), Load(arrivals=None))
    return LiveProber(clients, ScriptedEngine(clock), traffic, LoadControl(clock=clock), patience_s)


def never(requests: Requests, load_s: float) -> bool:
    return False


@pytest.mark.parametrize("arrivals", [Constant(1.0), Poisson(3.0), ClosedLoop(users=2)])
def test_a_probe_shows_all_requests_that_were_due_at_its_own_level(arrivals: Arrivals) -> None:
    run = prober(0.5, arrivals)(10.0, never, 20.0)
    answers = 400 if isinstance(arrivals, ClosedLoop) else 200  # ten users, two requests a second each
    assert len(run.requests) == pytest.approx(answers, rel=0.15)
    assert run.load_s == pytest.approx(20.0, abs=0.6) and run.client_kept_up
    assert not run.requests.failed.any() and not run.requests.in_flight.any()
    assert run.requests.due_s.max() < run.load_s


@pytest.mark.parametrize("arrivals", [Constant(1.0), Poisson(3.0), ClosedLoop(users=2)])
def test_whoever_decides_on_a_probe_sees_the_requests_in_flight(arrivals: Arrivals) -> None:
    flying: list[int] = []

    def look(requests: Requests, load_s: float) -> bool:
        flying.append(int(requests.in_flight.sum()))
        return load_s >= 10.0

    run = prober(1.1, arrivals)(4.0, look, 60.0)
    assert 10.0 <= run.load_s < 11.0 and flying[0] == (4 if isinstance(arrivals, ClosedLoop) else 0)
    assert 2 <= flying[-1] <= 9  # four a second for a little more than a second each, or four users


def test_answers_that_take_longer_than_the_slo_allows_are_late_and_no_errors() -> None:
    slow = prober(5.0, patience_s=2.0)
    run = slow(1.0, never, 10.0)
    assert not run.requests.failed.any() and (run.requests.latency_s > 2.0).all()
    assert slow.loads[0].drained_s - slow.loads[0].end_s == pytest.approx(2.0, abs=0.6)
    assert sum(r.error == "timeout" for r in slow.loads[0].records) == pytest.approx(
        3, abs=1
    )  # of the last three seconds


def test_without_a_limit_on_answers_those_that_take_longer_than_a_windows_have_failed() -> None:
    run = prober(1000.0, patience_s=None)(1.0, never, 10.0)
    assert run.requests.failed.all() and len(run.requests) == pytest.approx(10, abs=1)


def test_probes_share_one_clock_and_their_requests_follow_each_other() -> None:
    two = prober(0.5)
    two(2.0, never, 5.0)
    two(4.0, never, 5.0)
    first, second = two.loads
    assert (first.level, second.level, first.start_s) == (2.0, 4.0, 0.0)
    assert second.start_s >= first.drained_s > first.end_s
    assert all(second.start_s <= r.due_s < second.end_s for r in second.records)
    assert [r.latency_s for r in second.records] == pytest.approx([0.5] * len(second.records))


def test_users_come_one_after_another_once_it_is_clear_how_long_an_answer_takes() -> None:
    two = prober(1.5, ClosedLoop(users=2))
    two(10.0, never, 20.0)
    run = two(20.0, never, 20.0)
    first, second = two.loads
    assert first.start_s == 0.0
    assert run.ramp_s == pytest.approx(20 / (len(first.records) / first.drained_s), abs=0.6)
    assert run.load_s == pytest.approx(20.0, abs=0.6) and 0 <= run.requests.due_s.min() < 0.2
    due = np.histogram(run.requests.due_s, bins=40, range=(0.0, 20.0))[0]
    assert due.max() < 10  # in step, all twenty would ask in the same half second


def test_the_seconds_in_which_users_come_are_part_of_the_search() -> None:
    two = prober(1.5, ClosedLoop(users=1))
    search = Search(Unit.USERS, 1, 64, most_s=60.0)
    capacity = estimate(two, Slo((SloLimit(Quantity.LATENCY, 2.0, 0.9),)), search)
    assert sum(probe.ramp_s for probe in capacity.probes) > 5
    assert capacity.load_s == pytest.approx(
        sum(load.end_s - load.start_s for load in two.loads) + sum(probe.ramp_s for probe in capacity.probes)
    )


# --- due times -----------------------------------------------------------------------------------------------------


def ended(due_s: float, done_s: float) -> RequestRecord:
    return RequestRecord(0, due_s, due_s, None, done_s, None, None, "")


def test_requests_of_a_schedule_are_due_whether_or_not_they_were_answered() -> None:
    times = DueTimes(Constant(1.0), seed=0)
    first = next(Constant(1.0).due_times_s(0))
    requests = times.requests([ended(first + 1, 9.0)], first + 2.5)
    assert requests.due_s.tolist() == pytest.approx([first, first + 1, first + 2])
    assert requests.in_flight.tolist() == [True, False, True] and times.scheduled(first + 0.5) == 1


def test_users_ask_again_once_they_are_answered_and_have_thought() -> None:
    times = DueTimes(ClosedLoop(users=2, think_s=1.0), seed=0)
    requests = times.requests([ended(0.0, 2.0)], 4.0)
    assert requests.due_s.tolist() == [0.0, 0.0, 3.0]
    assert sorted(requests.in_flight.tolist()) == [False, True, True] and times.scheduled(4.0) is None
