"""What real client processes send to a real HTTP server, and when: shared loads, schedules under a slow server.

Every wait is for an event, with a limit that only a broken client reaches.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiohttp import web

from objectives import RequestRecord
from optimize.config.measuring import Load
from optimize.engine.base import RequestConfig
from optimize.load.arrivals import Burst, ClosedLoop, Poisson, Steps
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.testing.scripted_engine import ScriptedEngine
from optimize.testing.scripted_load import VirtualClock
from optimize.workload.workload import Workload
from tests.optimize.load.streaming import LIMIT_S, WORKLOAD, request, serving, stream, wait_for, wait_for_records


@pytest.fixture(scope="module")
def clients() -> Iterator[ClientPool]:
    with ClientPool() as pool:
        yield pool


def max_together(records: Sequence[RequestRecord]) -> int:
    """Most requests in flight at once."""
    steps = sorted([(r.sent_s, 1) for r in records] + [(r.done_s, -1) for r in records])
    return max(itertools.accumulate(step for _, step in steps))


def test_a_measurement_from_end_to_end(clients: ClientPool) -> None:
    with serving() as endpoint:
        engine = ScriptedEngine(VirtualClock())
        engine.endpoint = endpoint
        load = Load(arrivals=None, warmup_s=0.1, warmup_requests=5, window_min_s=0.3, window_requests=10,
                    warmup_max_s=5, window_max_s=LIMIT_S, drain_max_s=LIMIT_S)  # fmt: skip
        result = run_load(clients, engine, Traffic(WORKLOAD, RequestConfig(), ClosedLoop(users=2), load))
    in_window = [r for r in result.records if result.window_start_s <= r.due_s < result.window_end_s]
    assert len(in_window) >= 10
    for record in in_window:
        assert record.error is None and record.text == "ab" and record.first_token_s is not None
        assert record.due_s <= record.sent_s <= record.first_token_s <= record.done_s
    assert result.audit.processes == 1 and result.audit.sent == len(in_window) and engine.resets == 1


def test_more_than_a_hundred_requests_are_in_flight_at_once(clients: ClientPool) -> None:
    """The HTTP library's default is a hundred connections, which would bound the load without a word."""
    arrived, full = 0, asyncio.Event()

    async def gathering(http: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == 150:
            full.set()
        await asyncio.wait_for(full.wait(), LIMIT_S)
        return await stream(http)

    with serving(gathering) as endpoint, clients.loading(endpoint, request()) as run:
        run.follow(Burst(150))
        wait_for_records(run, 150)
    assert all(r.error is None for r in run.records)


@pytest.mark.parametrize("processes", [1, 2])
def test_requests_are_due_on_schedule_while_the_server_is_frozen(processes: int) -> None:
    """Coordinated omission: a client that waited for answers would not send, and would not count, these requests."""
    frozen, thaw = threading.Event(), threading.Event()

    async def freezing(http: web.Request) -> web.StreamResponse:
        while frozen.is_set() and not thaw.is_set():
            await asyncio.sleep(0.005)
        return await stream(http)

    arrivals = Poisson(rate_per_s=100)
    with serving(freezing) as endpoint, ClientPool(processes) as pool, pool.loading(endpoint, request()) as run:
        run.follow(arrivals, start_s=0.0)
        wait_for_records(run, 5)
        frozen.set()
        frozen_s = run.clock()
        wait_for(run, lambda: run.clock() > frozen_s + 0.5)
        assert run.oldest_due_s() < frozen_s + 0.4, "what is unanswered holds the window open"
        thaw.set()
        thawed_s = run.clock()
        wait_for(run, lambda: run.oldest_due_s() > thawed_s)
    expected = list(itertools.takewhile(lambda due_s: due_s < thawed_s, arrivals.due_times_s(0)))
    due = sorted(r.due_s for r in (*run.records, *run.unanswered) if r.due_s < thawed_s)
    assert due == pytest.approx(expected)  # none lost, none doubled, by however many processes
    assert max(r.latency_s for r in run.records) > 0.3


@pytest.mark.parametrize("processes", [1, 2])
def test_each_user_sends_its_next_request_once_it_is_answered(processes: int) -> None:
    arrived, everybody = 0, asyncio.Event()

    async def gathering(http: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == 5:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), LIMIT_S)  # each user has a request under way, whoever sends it
        return await stream(http)

    with serving(gathering) as endpoint, ClientPool(processes) as pool, pool.loading(endpoint, request()) as run:
        run.follow(ClosedLoop(users=5, think_s=0.02), start_s=0.0)
        wait_for_records(run, 60)
    assert max_together(run.records) == 5
    ends = {round(r.done_s, 9) for r in run.records}
    later = [r for r in run.records if r.due_s > 0.02]
    assert len(later) >= 50 and all(round(r.due_s - 0.02, 9) in ends for r in later)  # due when answered, not when sent


def test_rows_whose_answers_are_known_are_sent_last(clients: ClientPool) -> None:
    with serving() as endpoint, clients.loading(endpoint, request(later=[1, 2])) as run:
        run.follow(ClosedLoop(users=1))
        wait_for_records(run, 6)
    rows = [r.prompt_id for r in sorted(run.records, key=lambda r: r.due_s)][:6]
    assert rows[0] == rows[3] == 0 and set(rows[1:3]) == {1, 2}


def test_a_recorded_order_starts_anew_with_a_profile_and_answers_run_to_their_lengths(clients: ClientPool) -> None:
    bodies: list[tuple[str, int, bool]] = []

    async def noting(http: web.Request) -> web.StreamResponse:
        body = await http.json()
        bodies.append((body["prompt"], body["max_tokens"], body.get("ignore_eos", False)))
        return await stream(http)

    workload = Workload("test", ["one", "two", "three"], [], 7, output_tokens=[3, 9, 6], in_order=True)
    before = set(itertools.islice(Poisson(50.0).due_times_s(0), 10_000))
    with serving(noting) as endpoint, clients.loading(endpoint, request(workload)) as run:
        run.follow(Poisson(50.0), start_s=0.0)
        wait_for_records(run, 4)
        run.follow(Steps([50.0], step_s=1.0, random=False))
        wait_for(run, lambda: sum(r.due_s not in before for r in run.records) >= 20)
    assert set(bodies) == {("one", 3, True), ("two", 7, True), ("three", 6, True)}  # max_tokens bounds the lengths
    of_profile = sorted((r for r in run.records if r.due_s not in before), key=lambda r: r.due_s)
    assert [r.prompt_id for r in of_profile[:7]] == [0, 1, 2, 0, 1, 2, 0]


def test_the_limit_of_a_row_goes_with_each_of_its_requests(clients: ClientPool) -> None:
    bodies: list[tuple[str, int, bool]] = []

    async def noting(http: web.Request) -> web.StreamResponse:
        body = await http.json()
        bodies.append((body["prompt"], body["max_tokens"], "ignore_eos" in body))
        return await stream(http)

    workload = Workload("test", ["one", "two", "three"], [], 7, limits=[3, 9, 6])
    with serving(noting) as endpoint, clients.loading(endpoint, request(workload)) as run:
        run.follow(ClosedLoop(users=1))
        wait_for_records(run, 3)
    assert set(bodies) == {("one", 3, False), ("two", 7, False), ("three", 6, False)}


def test_the_tools_of_a_row_go_with_its_requests_and_no_others(clients: ClientPool) -> None:
    bodies: list[dict[str, Any]] = []

    async def noting(http: web.Request) -> web.StreamResponse:
        bodies.append(await http.json())
        return await stream(http)

    chat = [{"role": "user", "content": [{"type": "text", "text": "one"}]}]
    tools = [{"type": "function", "function": {"name": "ask"}}]
    workload = Workload("test", [chat, "two"], [], 7, fields=[{"tools": tools}, {}])
    with serving(noting) as endpoint, clients.loading(endpoint, request(workload)) as run:
        run.follow(ClosedLoop(users=1))
        wait_for_records(run, 2)
    assert {json.dumps([b.get("messages"), b.get("tools")]) for b in bodies} == {
        json.dumps([chat, tools]), json.dumps([None, None])
    }  # fmt: skip


def test_requests_without_an_answer_are_given_up_at_the_end_with_their_wait(clients: ClientPool) -> None:
    arrived = 0

    async def hanging(http: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        await asyncio.sleep(600)
        raise AssertionError

    with serving(hanging) as endpoint:
        with clients.loading(endpoint, request()) as run:
            run.follow(Burst(3), start_s=0.0)
            wait_for(run, lambda: arrived == 3)
            waited_s = run.clock()
        assert run.records == [] and len(run.unanswered) == 3
        assert all(r.error == "timeout" and r.latency_s >= waited_s for r in run.unanswered)
