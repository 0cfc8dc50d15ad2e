"""The window of a load and its end, in virtual time: no test here waits or depends on the speed of the machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from objectives import Measurement
from objectives.latency import LatencyQuantile
from optimize.config.measuring import Iterations
from optimize.errors import ConfigError, EngineFailure, FailureKind, TransientFault
from optimize.load.arrivals import Arrivals, ClosedLoop, Constant, Poisson, Ramp, Steps
from optimize.load.window import Glimpse
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest, SingleServer
from tests.optimize.load.bench import Bench, due_in_window, window_s

# --- the window -----------------------------------------------------------------------------------------------------


def test_a_window_has_its_shortest_length_and_its_requests() -> None:
    long, many = Bench().run(ClosedLoop(users=4)), Bench().run(ClosedLoop(users=1), window_requests=200)
    assert window_s(long) == pytest.approx(4.0, abs=0.15)
    assert len(due_in_window(many)) >= 200 and window_s(many) == pytest.approx(10.0, abs=0.2)


def test_a_window_stays_open_until_it_is_precise_or_at_its_longest() -> None:
    lengths_s: list[float] = []

    def precise(glimpse: Glimpse) -> bool:
        lengths_s.append(glimpse.end_s - glimpse.start_s)
        return lengths_s[-1] > 10

    patient = Bench().run(ClosedLoop(users=2), {"precise": precise})
    never = Bench().run(ClosedLoop(users=2), {"precise": lambda _: False}, window_max_s=20.0)
    assert lengths_s[0] >= 4.0 and window_s(patient) == pytest.approx(10.0, abs=0.2)
    assert window_s(never) == pytest.approx(20.0)


def test_looking_at_the_records_takes_a_tenth_of_a_core_at_most() -> None:
    bench, looks_at = Bench(), list[float]()

    def precise(_: Glimpse) -> bool:
        looks_at.append(bench.clock.now())
        bench.clock.sleep(0.3)
        return len(looks_at) == 3

    bench.run(ClosedLoop(users=2), {"precise": precise})
    assert [b - a for a, b in itertools.pairwise(looks_at)] == pytest.approx([3.3, 3.3])


def test_a_fixed_number_of_iterations_is_measured_without_looking_for_a_steady_state() -> None:
    fixed: dict[str, Any] = {
        "iterations": Iterations(warmup=5, measured=10), "warmup_s": 0.0, "warmup_requests": 10, "window_min_s": 0.0,
        "window_requests": 20,
    }  # fmt: skip
    whole = Bench().run(ClosedLoop(users=2), None, **fixed)
    short = Bench().run(ClosedLoop(users=2), None, **fixed, window_max_s=0.3)
    assert whole.cut_short is None and window_s(whole) == pytest.approx(0.5, abs=0.2)
    assert short.cut_short is not None and short.cut_short.endswith(" of 20 requests in 0.3 s")


@pytest.mark.parametrize("arrivals", [Ramp(10.0, 60.0, ramp_s=2.0), Steps([10.0, 60.0], step_s=1.0, random=False)])
def test_a_profile_is_measured_from_its_start_to_its_end(arrivals: Ramp | Steps) -> None:
    result = Bench().run(arrivals)
    due = sorted(r.due_s - result.window_start_s for r in due_in_window(result))
    expected = list(itertools.takewhile(lambda t: t < 2.0, arrivals.due_times_s(0)))
    assert due == pytest.approx(expected)
    assert window_s(result) == pytest.approx(2.0)
    assert any(r.due_s < result.window_start_s for r in result.records)  # warmed up before
    assert (result.audit.asked, result.audit.sent) == (len(expected), len(expected))
    assert result.drift is None


def test_open_loop_requests_are_due_on_schedule_whatever_the_server_does() -> None:
    result = Bench(lambda _: ScriptedAnswer(0.3)).run(Poisson(rate_per_s=40))
    due = sorted(r.due_s for r in due_in_window(result))
    times = itertools.takewhile(lambda t: t < result.window_end_s, Poisson(rate_per_s=40).due_times_s(0))
    expected = [t for t in times if t >= result.window_start_s]
    assert due == pytest.approx(expected)
    assert (result.audit.asked, result.audit.sent) == (len(expected), len(expected))


def test_the_audit_tells_how_late_and_how_busy_the_clients_were() -> None:
    audit = Bench(send_lag_s=0.03).run(Poisson(rate_per_s=20)).audit
    assert (audit.send_lag_median_s, audit.send_lag_p99_s) == pytest.approx((0.03, 0.03))
    assert audit.client_cpu == pytest.approx(0.1) and audit.processes == 1
    assert Bench().run(ClosedLoop(users=2)).audit.asked is None


@pytest.mark.parametrize("arrivals", [ClosedLoop(users=3), Poisson(rate_per_s=30)])
def test_a_stall_of_the_server_shows_in_the_latencies(arrivals: Arrivals) -> None:
    """Coordinated omission: requests due during a freeze have waited since they were due."""

    def freezing(request: ScriptedRequest) -> ScriptedAnswer:
        since = request.at - bench.phase_at.get("measuring", math.inf)
        return ScriptedAnswer(0.08 + (1.0 - since if 0.2 < since < 1.0 else 0.0))

    bench = Bench(freezing)
    result = bench.run(arrivals)
    measurement = Measurement(result.records, result.window_start_s, result.window_end_s, references={})
    p99 = LatencyQuantile(0.99).estimate(measurement)
    assert p99 is not None and p99.value > 0.6


@pytest.mark.parametrize(
    ("arrivals", "service_s", "drift", "overload"),
    [
        (ClosedLoop(users=2), lambda n: 0.01 + 0.0005 * n, True, False),  # users wait: a queue cannot grow
        (Constant(rate_per_s=30), lambda n: 0.02 + 0.0004 * n, False, True),
        (Constant(rate_per_s=30), lambda n: 0.05, False, True),  # fifty milliseconds each: twenty per second at most
        (Constant(rate_per_s=30), lambda n: max(0.001, 0.03 - 0.0001 * n), True, False),
        (Constant(rate_per_s=30), lambda n: 0.01, False, False),
    ],
)
def test_a_load_whose_speed_changes_drifts_or_is_overloaded(
    arrivals: Arrivals, service_s: Callable[[int], float], drift: bool, overload: bool
) -> None:
    result = Bench(SingleServer(service_s)).run(arrivals, warmup_max_s=3.0, window_requests=90)
    assert (result.drift is not None, result.overload is not None) == (drift, overload)
    for text, expected in ((result.drift, drift), (result.overload, overload)):
        assert not expected or "mean latency went from" in str(text) or "requests pile up" in str(text)


# --- the end --------------------------------------------------------------------------------------------------------


def test_the_load_goes_on_while_the_last_requests_of_the_window_drain() -> None:
    result = Bench(lambda request: ScriptedAnswer(1.5 if request.row == 0 else 0.2)).run(ClosedLoop(users=4))
    late = [r for r in result.records if r.due_s >= result.window_end_s]
    slowest = max(r.done_s for r in due_in_window(result))
    assert all(r.error is None for r in due_in_window(result))
    assert result.window_end_s < slowest <= result.drained_s
    assert late and min(r.due_s for r in late) < slowest


def test_a_request_that_outlasts_the_drain_counts_with_its_wait() -> None:

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(50.0 if request.at > bench.phase_at.get("measuring", math.inf) + 2.0 else 0.05)

    bench = Bench(server)
    result = bench.run(ClosedLoop(users=2), drain_max_s=5.0)
    hanging = [r for r in due_in_window(result) if r.error == "timeout"]
    assert len(hanging) == 2 and all(r.done_s == result.drained_s for r in hanging)
    assert result.drained_s == pytest.approx(result.window_end_s + 5.0)


def test_a_request_that_is_never_answered_times_out_and_the_load_goes_on() -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(math.inf if request.number == 60 else 0.05)

    result = Bench(server).run(ClosedLoop(users=2), request_timeout_s=1.5)
    (lost,) = [r for r in result.records if r.error == "timeout"]
    assert lost.latency_s == pytest.approx(1.5) and lost in due_in_window(result)


def test_an_endpoint_that_throttles_everything_is_no_slow_configuration() -> None:
    with pytest.raises(TransientFault, match=r"throttles: it turned 1 of 1 requests away \(try later\)"):
        Bench(lambda _: ScriptedAnswer(0.05, "throttled", "try later")).run(ClosedLoop(users=2))


def test_an_endpoint_that_throttles_all_but_the_first_answers_is_no_slow_configuration() -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(0.05, None if request.max_tokens == 4 else "throttled", "try later")

    with pytest.raises(TransientFault, match=r"load\.honour_retry_after=true"):
        Bench(server).run(ClosedLoop(users=2), first_answer_max_s=5)


def test_a_refused_key_is_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"not the key .*no such key"):
        Bench(lambda _: ScriptedAnswer(0.05, "unauthorized", "no such key")).run(ClosedLoop(users=2))


def test_a_refused_field_of_our_requests_is_named_with_the_way_to_leave_it_out() -> None:
    refusal = ScriptedAnswer(0.05, "refused", "Unrecognized request argument supplied: stream_options")
    with pytest.raises(EngineFailure, match=r"engine\.request=\{stream_options: null\}"):
        Bench(lambda _: refusal).run(ClosedLoop(users=2))


@pytest.mark.parametrize("error", ["refused", "server", "malformed", "connection"])
def test_requests_that_fail_are_records_of_the_window_like_others(error: str) -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(0.05, error if request.number % 2 else None)

    window = due_in_window(Bench(server).run(ClosedLoop(users=2)))
    assert {r.error for r in window} == {None, error}
    assert sum(r.error is None for r in window) >= 20  # answers alone end the window


def test_too_few_answers_in_the_longest_window_are_too_slow_to_be_measured() -> None:
    bench = Bench(lambda _: ScriptedAnswer(20.0))
    with pytest.raises(EngineFailure, match=r"[0-4] answers in 60 s .*\(load.window_max_s=60\)") as caught:
        bench.run(ClosedLoop(users=1), warmup_requests=1, warmup_max_s=25.0, drain_max_s=5.0)
    assert caught.value.kind is FailureKind.TOO_SLOW


@pytest.mark.parametrize("dies_at_s", [0.02, 0.4, 3.0])
def test_the_death_of_the_engine_ends_the_load_in_every_phase(dies_at_s: float) -> None:
    bench = Bench(dies_at_s=dies_at_s)
    began = bench.clock.now()
    with pytest.raises(EngineFailure, match="died"):
        bench.run(ClosedLoop(users=2), window_min_s=20)
    assert bench.clock.now() - began < dies_at_s + 0.2
