"""Loads of conversations turn by turn, in virtual time: what counts in a window, and what a warm-up waits for."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

import pytest

from optimize.config.measuring import Guard
from optimize.errors import EngineFailure
from optimize.load.arrivals import ClosedLoop, Constant, Poisson, Steps
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest, SingleServer
from optimize.workload.conversation import Conversations
from optimize.workload.workload import Workload
from tests.optimize.load.bench import Bench, due_in_window

LENGTHS = (1, 2, 3, 6)


def talks(think_s: float | None = None, **more: Any) -> Workload:
    """Conversations of one, two, three and six turns."""
    numbers = iter(range(sum(LENGTHS)))
    rows = [[next(numbers) for _ in range(length)] for length in LENGTHS]
    asks = [[{"role": "user", "content": f"question {row}"}] for row in range(sum(LENGTHS))]
    conversations = Conversations(rows, asks, [[] for _ in asks], [think_s] * len(asks), **more)
    return Workload("talks", asks, [], 5, conversations=conversations)


def by_turns(request: ScriptedRequest) -> ScriptedAnswer:
    """Later turns find most of their prompt cached."""
    return ScriptedAnswer(0.1, prompt_tokens=100 * request.turn, cached_tokens=100 * (request.turn - 1))


def test_a_window_holds_every_turn_as_often_as_the_conversations_do() -> None:
    result = Bench(by_turns, workload=talks()).run(ClosedLoop(users=6), window_requests=400)
    due = due_in_window(result)
    counts = Counter(r.turn for r in due)
    shares = {turn: sum(length >= turn for length in LENGTHS) / sum(LENGTHS) for turn in range(1, 7)}
    assert {turn: counts[turn] / len(due) for turn in counts} == pytest.approx(shares, abs=0.04)
    assert all(r.error is None for r in due)


def test_conversations_that_are_under_way_when_the_window_closes_count_by_their_requests() -> None:
    result = Bench(by_turns, workload=talks()).run(ClosedLoop(users=6))
    inside, end_s = due_in_window(result), result.window_end_s
    assert any(not r.last and r.done_s >= end_s - 0.1 for r in inside)  # its later turns are due after the window
    assert len(inside) == sum(result.window_start_s <= r.due_s < end_s for r in result.records)


@pytest.mark.parametrize("arrivals", [ClosedLoop(users=4), Poisson(rate_per_s=4.0)])
def test_the_window_opens_after_the_time_of_two_conversations_of_mean_length(arrivals: Any) -> None:
    result = Bench(by_turns, workload=talks(think_s=0.5)).run(arrivals, warmup_requests=1, warmup_s=0.0)
    assert result.window_start_s + 1e-9 >= 2 * 3 * (0.1 + 0.5)
    assert max(r.turn for r in result.records if r.done_s <= result.window_start_s) >= 5


def test_conversations_too_long_for_the_longest_warm_up_do_not_hold_the_window_back() -> None:
    result = Bench(by_turns, workload=talks(think_s=50.0)).run(
        ClosedLoop(users=40), warmup_max_s=3.0, window_requests=5, window_max_s=200.0
    )
    assert result.window_start_s == pytest.approx(3.0, abs=0.3)


def test_the_longest_warm_up_follows_the_length_of_conversations() -> None:
    slow = Bench(lambda _: ScriptedAnswer(2.0), workload=talks(think_s=8.0))
    result = slow.run(ClosedLoop(users=6), warmup_max_s=None, window_requests=6, window_max_s=90.0)
    assert result.window_start_s == pytest.approx(2 * 3 * (2.0 + 8.0), abs=0.3)  # twice three turns with their pauses


def test_a_schedule_is_audited_by_the_conversations_that_it_has_arrive() -> None:
    result = Bench(by_turns, workload=talks()).run(Constant(rate_per_s=5.0))
    assert result.audit.asked == result.audit.sent == sum(r.turn == 1 for r in due_in_window(result))
    assert result.audit.problems(Guard()) == [] and result.overload is None
    assert len(due_in_window(result)) > 2 * result.audit.sent  # three turns each, on average


def test_a_schedule_that_asks_for_more_turns_than_are_served_is_overload() -> None:
    bench = Bench(SingleServer(lambda _: 0.1), workload=talks())  # 10 requests/s; 5 conversations/s ask for 15
    try:
        result = bench.run(Poisson(rate_per_s=5.0), window_requests=300)
    except EngineFailure as failure:
        raise AssertionError("it answers, and is no failure of the engine") from failure
    assert result.overload is not None


def test_conversations_of_the_warm_up_go_on_into_a_profile() -> None:
    result = Bench(by_turns, workload=talks(think_s=1.0)).run(Steps(rates_per_s=[5.0, 10.0], step_s=5.0))
    first = [r for r in due_in_window(result) if r.due_s < result.window_start_s + 0.9]
    assert any(r.turn > 1 for r in first) and result.audit.problems(Guard()) == []


def test_a_turn_is_due_at_the_end_of_the_answer_before_and_its_latency_counts_from_there() -> None:
    late = Bench(by_turns, send_lag_s=0.2, workload=talks(think_s=0.5)).run(Constant(rate_per_s=2.0))
    later = [r for r in due_in_window(late) if r.turn > 1]
    assert statistics.fmean(r.latency_s for r in later) == pytest.approx(0.3)  # the lag is no part of any pause
    ends = sorted(r.done_s for r in late.records)
    assert all(any(abs(end + 0.5 - r.due_s) < 1e-6 for end in ends) for r in later)


def test_a_conversation_whose_turn_fails_ends_and_its_user_begins_another() -> None:
    def server(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(0.1, "server" if request.turn == 3 else None)

    due = due_in_window(Bench(server, workload=talks()).run(ClosedLoop(users=6)))
    failed = [r for r in due if r.error is not None]
    assert failed and all(r.turn == 3 and r.last for r in failed)
    assert {r.dropped for r in failed} == {0, 3}  # the third of three, and of six
    assert max(r.turn for r in due) == 3


def test_a_conversation_that_would_exceed_the_context_ends_without_an_error() -> None:
    workload = talks(tokens=[10] * sum(LENGTHS), context=310)
    due = due_in_window(Bench(by_turns, workload=workload).run(ClosedLoop(users=6)))
    assert max(r.turn for r in due) == 3 and not any(r.error for r in due)
    assert {r.dropped for r in due if r.turn == 3} == {0, 3}
