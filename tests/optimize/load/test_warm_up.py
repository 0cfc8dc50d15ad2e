"""First answers and warm-up of a load, in virtual time."""

from __future__ import annotations

import math

import pytest

from optimize.errors import EngineFailure, FailureKind
from optimize.load.arrivals import ClosedLoop
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest, SingleServer
from tests.optimize.load.bench import Bench, due_in_window


def test_what_first_answers_compiled_or_cached_is_cleared_before_the_load() -> None:
    bench = Bench()
    bench.run(ClosedLoop(users=2))
    assert bench.events == ["first answers after 0 resets", "warm-up after 1 resets", "measuring after 1 resets"]


def test_first_answers_are_one_short_request_and_then_several_at_once() -> None:
    requests: list[ScriptedRequest] = []

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        requests.append(request)
        return ScriptedAnswer(0.7)

    result = Bench(server).run(ClosedLoop(users=1))
    first, several = requests[0], requests[1:5]
    assert [r.max_tokens for r in requests[:6]] == [4, 4, 4, 4, 4, 5]
    assert first.at + 0.7 <= several[0].at and len({r.at for r in several}) == 1
    assert result.first_answer_s == pytest.approx(1.4, abs=0.05)


def test_without_first_answers_the_load_begins_at_once() -> None:
    bench = Bench()
    result = bench.run(ClosedLoop(users=2), {"first_answers": False})
    assert bench.events[0] == "warm-up after 0 resets" and result.first_answer_s == 0


def test_a_server_that_answers_nothing_is_too_slow() -> None:
    with pytest.raises(EngineFailure, match=r"no first answer within 7 s") as caught:
        Bench(lambda _: ScriptedAnswer(math.inf)).run(ClosedLoop(users=2), first_answer_max_s=7)
    assert caught.value.kind is FailureKind.TOO_SLOW


def test_a_server_that_refuses_everything_is_quoted() -> None:
    refusal = ScriptedAnswer(0.01, "refused", "beam width exceeds max_logprobs")
    with pytest.raises(EngineFailure, match="beam width exceeds max_logprobs") as caught:
        Bench(lambda _: refusal).run(ClosedLoop(users=2))
    assert caught.value.kind is FailureKind.REFUSED


def test_one_request_that_is_refused_first_condemns_no_configuration() -> None:
    requests: list[ScriptedRequest] = []

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        requests.append(request)
        return ScriptedAnswer(0.05, "refused" if len(requests) == 1 else None, "your prompt is too long")

    assert due_in_window(Bench(server).run(ClosedLoop(users=2)))


@pytest.mark.parametrize("error", ["server", "connection"])
def test_other_errors_of_the_first_answers_may_pass(error: str) -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(0.05, error if request.max_tokens == 4 else None)

    assert due_in_window(Bench(server).run(ClosedLoop(users=2)))


@pytest.mark.parametrize(("give_up_s", "waits"), [(0.4, False), (None, True)])
def test_a_load_without_answers_is_given_up_at_the_limit_and_not_before(give_up_s: float | None, waits: bool) -> None:
    bench = Bench(lambda _: ScriptedAnswer(1.2))
    control = {"first_answers": False, "give_up_s": give_up_s}
    lengths = {"warmup_s": 0.1, "warmup_requests": 1, "warmup_max_s": 0.3, "window_requests": 5}
    if waits:
        assert bench.run(ClosedLoop(users=4), control, **lengths).records
    else:
        with pytest.raises(EngineFailure, match=r"0 answers in 0 s of warm-up"):
            bench.run(ClosedLoop(users=4), control, **lengths)


def test_a_load_of_failures_alone_is_too_slow_and_quotes_the_last() -> None:
    with pytest.raises(EngineFailure, match=r"0 answers .*\d+ requests failed, the last as server boom") as caught:
        Bench(lambda _: ScriptedAnswer(0.05, "server", "boom")).run(ClosedLoop(users=2), first_answer_max_s=5)
    assert caught.value.kind is FailureKind.TOO_SLOW


def test_the_warm_up_is_as_long_and_has_as_many_requests_as_asked() -> None:
    result = Bench().run(ClosedLoop(users=2), warmup_s=3.0)
    assert result.window_start_s >= 3.0
    bench = Bench(lambda _: ScriptedAnswer(0.4))
    few = bench.run(ClosedLoop(users=1), warmup_requests=40)
    assert bench.phase_at["measuring"] - bench.phase_at["warm-up"] == pytest.approx(16.0, abs=0.2)
    assert few.window_start_s < 16.0  # it had settled among the forty


def test_the_window_opens_where_the_slow_start_ends() -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(0.02 + 0.8 * math.exp(-request.number / 25))

    result = Bench(server).run(ClosedLoop(users=4), window_requests=60)
    slow = sum(r.latency_s > 0.2 for r in result.records)
    assert slow >= 20 and sum(r.latency_s > 0.2 for r in due_in_window(result)) <= slow / 3
    assert result.drift is None


def test_a_load_that_never_settles_is_measured_after_the_longest_warm_up() -> None:
    server = SingleServer(lambda number: 0.02 + 0.0002 * number)
    result = Bench(server).run(ClosedLoop(users=2), warmup_max_s=3.0)
    assert result.window_start_s == pytest.approx(3.0, abs=0.2)
