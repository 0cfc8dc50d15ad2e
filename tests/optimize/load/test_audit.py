"""The client's audit of itself."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from objectives import RequestRecord
from optimize.config.measuring import Guard
from optimize.load.audit import Audit, audit_of

GOOD = Audit(0.0002, 0.002, 0.001, latency_median_s=0.3, asked=100, sent=100, client_cpu=0.2, processes=1)


def record(due_s: float, lag_s: float) -> RequestRecord:
    return RequestRecord(0, due_s, due_s + lag_s, None, due_s + 1, 1, 1, "", None)


def test_a_good_client_has_no_problems() -> None:
    assert GOOD.problems(Guard()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"send_lag_p99_s": 0.02, "send_lag_p99_low_s": 0.018, "client_cpu": 0.5},
            "sent 20 ms late (P99), significantly more than 15 ms",
        ),
        ({"sent": 98}, "98 of 100 requests due were sent"),
        ({"client_cpu": 0.95}, "used 95% of a core"),
    ],
)
def test_each_problem_is_named(change: dict[str, Any], message: str) -> None:
    (problem,) = dataclasses.replace(GOOD, **change).problems(Guard())
    assert message in problem


def test_a_lag_that_is_small_beside_the_latency_is_no_problem() -> None:
    assert dataclasses.replace(GOOD, send_lag_p99_low_s=0.02, latency_median_s=1.0).problems(Guard()) == []


LATE = dataclasses.replace(GOOD, send_lag_p99_s=0.3, send_lag_p99_low_s=0.2)


@pytest.mark.parametrize(
    ("change", "own"), [({}, False), ({"client_cpu": 0.5}, True), ({"send_lag_median_s": 0.05}, True)]
)
def test_idle_clients_that_are_late_now_and_then_were_stalled_by_the_machine(change: dict[str, Any], own: bool) -> None:
    audit = dataclasses.replace(LATE, **change)
    assert bool(audit.problems(Guard())) is own
    assert bool(audit.stalls(Guard())) is not own
    assert GOOD.stalls(Guard()) == []
    if not own:
        assert (
            "the machine stalled clients at 20% of a core: requests were sent 300 ms late" in audit.stalls(Guard())[0]
        )


def test_one_late_request_among_a_hundred_is_no_problem() -> None:
    flow: Any = SimpleNamespace(cpu=[])
    punctual = [record(i / 10, lag_s=0.0005) for i in range(100)]
    for late, bad in ((1, False), (8, True)):
        due = [*punctual[late:], *(record(i / 10 + 0.01, lag_s=0.2) for i in range(0, 100, 100 // late))][:100]
        assert bool(audit_of(flow, due, None, 0.0, 10.0).stalls(Guard(send_lag_share_max=0.0))) is bad


def test_a_closed_loop_has_no_schedule_to_miss() -> None:
    assert dataclasses.replace(GOOD, asked=None, sent=3).problems(Guard()) == []


def test_figures_of_a_window() -> None:
    flow: Any = SimpleNamespace(cpu=[[(0.0, 1.0), (10.0, 2.0)], [(0.0, 0.0), (4.0, 0.0), (8.0, 3.0)]])
    due = [record(5.0 + i / 100, lag_s=i / 1000) for i in range(101)]
    audit = audit_of(flow, due, asked=101, start_s=4.0, end_s=8.0)
    assert audit.send_lag_median_s == pytest.approx(0.05)
    assert audit.send_lag_p99_s == pytest.approx(0.099)
    assert (audit.latency_median_s, audit.sent, audit.processes) == pytest.approx((1.0, 101, 2))
    assert audit.client_cpu == pytest.approx(3.0 / 4.0)  # the busier of the two
