"""The contract of clients, on the real processes and on those that follow a script: one schedule, one way to end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.arrivals import Burst, ClosedLoop, Constant, Poisson
from optimize.load.client_pool import ClientPool, LoadRequest
from optimize.load.clients import Clients, OngoingLoad
from optimize.load.clock import Clock, MonotonicClock
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, VirtualClock
from optimize.testing.stub_engine import stub
from optimize.workload.conversation import Conversations
from optimize.workload.workload import Workload

WORKLOAD = Workload("test", ["one", "two", "three"], [], max_tokens=4)
ASKS: list[list[dict[str, Any]]] = [[{"role": "user", "content": f"question {row}"}] for row in range(5)]
TALKS = Workload(
    "talks", ASKS, [], max_tokens=4,
    conversations=Conversations([[0, 1, 2], [3, 4]], ASKS, [[]] * 5, [None, 0.03, None, None, None]),
)  # fmt: skip
LIMIT_S = 120.0


@dataclass(frozen=True)
class Setup:
    """Clients, an engine that answers in a few milliseconds, and the clock that both go by."""

    clients: Clients
    endpoint: Endpoint
    clock: Clock

    def loading(self, later: tuple[int, ...] = (), workload: Workload = WORKLOAD) -> Any:
        request = LoadRequest(workload, RequestConfig(), workload.max_tokens, LIMIT_S, seed=0, later=later)
        return self.clients.loading(self.endpoint, request)

    def wait_for(self, run: OngoingLoad, happened: Callable[[], bool]) -> None:
        deadline = self.clock.now() + LIMIT_S
        while not happened():
            assert self.clock.now() < deadline, f"{len(run.records)} requests ended"
            self.clock.sleep(0.01)
            run.update()


@pytest.fixture(scope="module")
def real() -> Iterator[Setup]:
    with ExitStack() as stack:
        engine = stack.enter_context(stub())
        yield Setup(stack.enter_context(ClientPool()), engine.endpoint, MonotonicClock())


@pytest.fixture(params=["real", "scripted"])
def setup(request: pytest.FixtureRequest) -> Setup:
    if request.param == "real":
        return request.getfixturevalue("real")  # type: ignore[no-any-return]
    clock = VirtualClock()
    return Setup(ScriptedClients(clock, lambda _: ScriptedAnswer(0.004)), Endpoint("", None, "m"), clock)


def test_an_open_loop_sends_every_request_of_its_schedule_once(setup: Setup) -> None:
    arrivals = Poisson(rate_per_s=100)
    with setup.loading() as run:
        run.follow(arrivals, start_s=0.0)
        setup.wait_for(run, lambda: run.oldest_due_s() > 0.5)
    expected = list(itertools.takewhile(lambda due_s: due_s < 0.5, arrivals.due_times_s(0)))
    assert sorted(r.due_s for r in run.records if r.due_s < 0.5) == pytest.approx(expected)
    assert all(r.error is None for r in run.records)
    assert all(r.due_s - 0.01 < r.sent_s <= r.done_s for r in run.records)  # timers have a resolution of milliseconds


def test_a_user_is_due_again_once_it_is_answered_and_has_thought(setup: Setup) -> None:
    with setup.loading() as run:
        run.follow(ClosedLoop(users=1, think_s=0.02), start_s=0.0)
        setup.wait_for(run, lambda: len(run.records) >= 8)
    ordered = sorted(run.records, key=lambda r: r.due_s)
    assert all(b.due_s - a.done_s == pytest.approx(0.02) for a, b in itertools.pairwise(ordered))


def test_other_arrivals_replace_those_before(setup: Setup) -> None:
    with setup.loading() as run:
        run.follow(ClosedLoop(users=3), start_s=0.0)
        setup.wait_for(run, lambda: len(run.records) >= 3)
        start_s = run.clock()
        schedule = [start_s + t for t in itertools.islice(Constant(rate_per_s=50).due_times_s(0), 10_000)]
        run.follow(Constant(rate_per_s=50), start_s)

        def alone() -> list[float]:
            """Due times of the new arrivals' requests after the last of the users' requests."""
            due = [r.due_s for r in run.records]
            users_until_s = max(set(due) - set(schedule))
            return sorted(due_s for due_s in due if due_s > users_until_s)

        setup.wait_for(run, lambda: len(alone()) >= 20)
    expected = list(itertools.islice((due_s for due_s in schedule if due_s >= alone()[0]), 15))
    assert alone()[:15] == expected


def test_rows_with_known_answers_are_sent_last_and_the_order_repeats(setup: Setup) -> None:
    with setup.loading(later=(0, 2)) as run:
        run.follow(ClosedLoop(users=1), start_s=0.0)
        setup.wait_for(run, lambda: len(run.records) >= 6)
    rows = [r.prompt_id for r in sorted(run.records, key=lambda r: r.due_s)][:6]
    assert rows[0] == 1 and set(rows[1:3]) == {0, 2} and rows[3:] == rows[:3]


def test_a_burst_is_sent_at_once_and_nothing_after_it(setup: Setup) -> None:
    with setup.loading() as run:
        run.follow(Burst(4), start_s=0.0)
        setup.wait_for(run, lambda: len(run.records) == 4 and run.oldest_due_s() > 0.1)
    assert len(run.records) == 4 and {r.due_s for r in run.records} == {0.0}
    assert run.unanswered == [] and run.oldest_due_s() > max(r.due_s for r in run.records)


def test_every_load_begins_at_second_zero_with_records_of_its_own(setup: Setup) -> None:
    runs = []
    for _ in range(2):
        with setup.loading() as run:
            run.follow(Burst(1), start_s=0.0)
            setup.wait_for(run, lambda run=run: len(run.records) == 1)  # type: ignore[misc]
        runs.append(run)
    assert len(runs[0].records) == len(runs[1].records) == 1 and runs[0].began < runs[1].began
    assert all(len(points) >= 2 for points in runs[1].cpu) or isinstance(setup.clients, ClientPool)
    assert all(later >= earlier for (_, earlier), (_, later) in itertools.pairwise(runs[1].cpu[0]))


def test_a_user_holds_one_conversation_at_a_time_and_thinks_before_every_turn(setup: Setup) -> None:
    with setup.loading(workload=TALKS) as run:
        run.follow(ClosedLoop(users=1, think_s=0.01), start_s=0.0)
        setup.wait_for(run, lambda: len(run.records) >= 10)
    ordered = sorted(run.records, key=lambda r: r.due_s)[:10]
    assert [(r.prompt_id, r.turn, r.last) for r in ordered[5:]] == [(r.prompt_id, r.turn, r.last) for r in ordered[:5]]
    assert sorted((r.prompt_id, r.turn, r.last) for r in ordered[:5]) == [
        (0, 1, False), (1, 2, False), (2, 3, True), (3, 1, False), (4, 2, True)
    ]  # fmt: skip
    pauses = {b.prompt_id: b.due_s - a.done_s for a, b in itertools.pairwise(ordered)}
    assert pauses == pytest.approx({0: 0.01, 1: 0.03, 2: 0.01, 3: 0.01, 4: 0.01})


def test_conversations_arrive_by_the_schedule_and_their_later_turns_follow_the_answers(setup: Setup) -> None:
    arrivals = Constant(rate_per_s=40)
    with setup.loading(workload=TALKS) as run:
        run.follow(arrivals, start_s=0.0)
        setup.wait_for(run, lambda: run.oldest_due_s() > 0.5)
    schedule = list(itertools.takewhile(lambda due_s: due_s < 0.4, arrivals.due_times_s(0)))
    assert sorted(r.due_s for r in run.records if r.turn == 1 and r.due_s < 0.4) == pytest.approx(schedule)
    ends = {r.done_s for r in run.records}
    later = [r for r in run.records if r.turn > 1]
    assert len(later) > len(schedule)
    assert all(any(abs(r.due_s - end - (0.03, 0.0)[r.prompt_id != 1]) < 1e-9 for end in ends) for r in later)


def test_conversations_that_have_begun_go_on_when_other_arrivals_take_over(setup: Setup) -> None:
    with setup.loading(workload=TALKS) as run:
        run.follow(Burst(2), start_s=0.0)
        setup.wait_for(run, lambda: len(run.records) >= 2)
        run.follow(Burst(1))
        setup.wait_for(run, lambda: sum(r.last for r in run.records) == 3)
    assert sorted(r.turn for r in run.records) in ([1, 1, 1, 2, 2, 2, 3, 3], [1, 1, 1, 2, 2, 2, 3])
