"""Slow and busy engines are measured for as long as it takes, and hopeless ones are given up, in virtual time."""

from __future__ import annotations

import math
from typing import Any

import pytest

from optimize.errors import EngineFailure, FailureKind
from optimize.load.arrivals import ClosedLoop, Poisson
from optimize.load.pace import Effort, Pace
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest, SingleServer
from tests.optimize.load.bench import Bench, due_in_window, window_s

SHIPPED: dict[str, Any] = {
    "warmup_s": 1.0, "warmup_requests": 16, "warmup_max_s": None, "warmup_settle_s": 6.0, "window_min_s": 5.0,
    "window_requests": 40, "window_precise_s": 8.0, "window_max_s": None,
}  # fmt: skip
"""The lengths of the chat study."""


def test_an_engine_that_takes_twenty_seconds_for_an_answer_is_measured_in_two_minutes() -> None:
    result = Bench(lambda _: ScriptedAnswer(20.0)).run(ClosedLoop(users=4), **SHIPPED)
    answered = [r for r in due_in_window(result) if r.error is None]
    assert len(answered) >= 24 and window_s(result) == pytest.approx(120.0, abs=1.0)
    assert result.window_start_s == pytest.approx(40.0, abs=1.0)  # two answers
    assert result.pace is not None and result.pace.answer_s == pytest.approx(20.0)


def test_an_engine_that_takes_a_minute_for_an_answer_is_measured_by_twenty_of_them() -> None:
    result = Bench(lambda _: ScriptedAnswer(61.0)).run(ClosedLoop(users=4), **SHIPPED)
    assert 20 <= len([r for r in due_in_window(result) if r.error is None]) <= 28
    assert result.drained_s < 600


@pytest.mark.parametrize("rate", [10.0, 36.0])
def test_a_quick_engine_is_measured_in_the_time_that_it_always_took(rate: float) -> None:
    server, imprecise = lambda _: ScriptedAnswer(4 / rate), {"precise": lambda _: False}
    first = Bench(server).run(ClosedLoop(users=4), imprecise, **SHIPPED)
    later = Bench(server).run(ClosedLoop(users=4), imprecise | {"pace": first.pace}, **SHIPPED)
    fixed = SHIPPED | {
        "warmup_max_s": 6.0, "window_max_s": 8.0, "drain_max_s": 15.0, "request_timeout_s": 60.0,
    }  # fmt: skip
    before = Bench(server).run(ClosedLoop(users=4), imprecise, **fixed)
    for result in (first, later):
        assert result.window_start_s == before.window_start_s
        assert window_s(result) == pytest.approx(window_s(before))
    assert window_s(first) == pytest.approx(8.0)


def test_a_trial_is_measured_for_twice_the_time_of_the_baseline_and_is_then_too_slow() -> None:
    pace = Pace(answer_s=20.0, window_s=120.0, answers=24)
    slower = Bench(lambda _: ScriptedAnswer(60.0)).run(ClosedLoop(users=4), {"pace": pace}, **SHIPPED)
    assert window_s(slower) == pytest.approx(240.0, abs=1.0) and len(due_in_window(slower)) >= 12
    with pytest.raises(EngineFailure, match=r"of window: the baseline gave 24 in 120 s"):
        Bench(lambda _: ScriptedAnswer(190.0)).run(ClosedLoop(users=1), {"pace": pace}, **SHIPPED)


def test_a_pause_of_an_engine_in_the_window_of_the_baseline_is_waited_for() -> None:
    """Other programs took the processors away for a minute and a half: fewer than five answers in eight seconds."""

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        since = request.at - bench.phase_at.get("measuring", math.inf)
        return ScriptedAnswer(90.0 if 0.0 <= since < 60.0 else 0.1)

    bench = Bench(server)
    assert sum(r.error is None for r in due_in_window(bench.run(ClosedLoop(users=2), **SHIPPED))) >= 20


@pytest.mark.parametrize(
    ("effort", "ends"), [(Effort(tokens=1.0), False), (Effort(cpu_s=500.0), True), (Effort(cpu_s=50.0), False)]
)
def test_first_answers_of_the_baseline_are_waited_for_while_the_engine_makes_progress(
    effort: Effort, ends: bool
) -> None:
    bench = Bench(lambda _: ScriptedAnswer(400.0))
    if ends:
        with pytest.raises(EngineFailure, match=r"no first answer within 180 s"):
            bench.run(ClosedLoop(users=4), {"effort": lambda _: effort}, **SHIPPED)
    else:
        assert bench.run(ClosedLoop(users=4), {"effort": lambda _: effort}, **SHIPPED).records


def test_an_engine_that_fails_from_some_time_on_ends_its_window() -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(0.1, "server" if request.number > 50 else None)

    with pytest.raises(EngineFailure, match=r"requests failed, the last as server") as caught:
        Bench(server).run(ClosedLoop(users=2), **(SHIPPED | {"warmup_s": 5.0}))
    assert caught.value.kind is FailureKind.TOO_SLOW


def test_an_open_loop_beyond_what_a_slow_engine_serves_is_given_up_soon() -> None:
    bench = Bench(SingleServer(lambda _: 5.0))
    began = bench.clock.now()
    with pytest.raises(EngineFailure, match="answers in"):
        bench.run(Poisson(rate_per_s=5.0), **SHIPPED)
    assert bench.clock.now() - began < 120


def test_an_open_loop_of_few_requests_is_measured_by_twenty_of_them() -> None:
    result = Bench(lambda _: ScriptedAnswer(8.0)).run(Poisson(rate_per_s=0.1), **SHIPPED)
    assert len(due_in_window(result)) >= 20 and result.overload is None
