"""Real client processes against a real HTTP server: shared loads, schedules under a slow server, ends of all kinds.

Every wait is for an event, with a limit that only a broken client reaches.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from aiohttp import web

from objectives import RequestRecord
from optimize.config.measuring import Load
from optimize.engine.base import Endpoint, RequestConfig
from optimize.errors import TransientFault
from optimize.load import client_process
from optimize.load.arrivals import Burst, ClosedLoop, Poisson, Steps
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.load.generator import Traffic, run_load
from optimize.testing.scripted_engine import ScriptedEngine
from optimize.testing.scripted_load import VirtualClock
from optimize.workload.workload import Workload
from tests.conftest import ROOT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
WORKLOAD = Workload("test", ["one", "two", "three"], ["1", "2", "3"], max_tokens=5)
LIMIT_S = 120.0


async def stream(request: web.Request, delay_s: float = 0.005) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for token in ("a", "b"):
        await asyncio.sleep(delay_s)
        await response.write(f"data: {json.dumps({'choices': [{'text': token}]})}\n\n".encode())
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
    return response


@contextmanager
def serving(handler: Handler = stream) -> Iterator[Endpoint]:
    """A server in a thread of this process."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{port}", "key", "model")
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        with warnings.catch_warnings():  # a connection that was just being accepted is nobody's to close
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="module")
def clients() -> Iterator[ClientPool]:
    with ClientPool() as pool:
        yield pool


def request(workload: Workload = WORKLOAD, later: Sequence[int] = ()) -> LoadRequest:
    return LoadRequest(workload, RequestConfig(), workload.max_tokens, LIMIT_S, seed=0, later=later)


def wait_for(run: LoadRun, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, f"{len(run.records)} requests ended in {LIMIT_S:g} s"
        time.sleep(0.01)
        run.update()


def wait_for_records(run: LoadRun, count: int) -> None:
    wait_for(run, lambda: len(run.records) >= count)


def max_together(records: Sequence[RequestRecord]) -> int:
    """Most requests in flight at once."""
    steps = sorted([(r.sent_s, 1) for r in records] + [(r.done_s, -1) for r in records])
    return max(itertools.accumulate(step for _, step in steps))


# --- what is sent, and when -----------------------------------------------------------------------------------------


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


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_client_process_that_is_killed_is_a_passing_fault_and_the_next_load_works() -> None:
    with ClientPool() as pool, serving() as endpoint:
        with pytest.raises(TransientFault, match="client process"), pool.loading(endpoint, request()) as run:
            run.follow(ClosedLoop(users=2))
            wait_for_records(run, 3)
            os.kill(pool.pids[0], signal.SIGKILL)
            wait_for(run, lambda: False)
        with pool.loading(endpoint, request()) as run:
            run.follow(ClosedLoop(users=2))
            wait_for_records(run, 3)


def test_client_processes_end_with_the_pool() -> None:
    with ClientPool(2) as pool:
        pool.begin()
        pids = pool.pids
        assert len(pids) == 2 and all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_client_processes_end_with_a_parent_that_is_killed() -> None:
    script = (
        "from optimize.load.client_pool import ClientPool; pool = ClientPool(2); pool.begin(); "
        "print(*pool.pids, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        clients = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    gone, alive = psutil.wait_procs(clients, timeout=LIMIT_S)
    assert len(gone) == 2 and alive == []


def test_a_pool_grows_up_to_its_limit() -> None:
    pool = ClientPool(1)
    assert [pool.grow(3), pool.size, pool.grow(3), pool.size, pool.grow(3)] == [True, 2, True, 3, False]


def test_a_pool_that_grew_sends_the_next_load_by_all_of_its_processes() -> None:
    with ClientPool() as pool, serving() as endpoint:
        pool.begin()
        pool.grow(2)
        with pool.loading(endpoint, request()) as run:
            run.follow(ClosedLoop(users=4))
            wait_for(run, lambda: len(run.records) >= 8 and all(len(points) >= 2 for points in run.cpu))
        assert len(pool.pids) == len(run.cpu) == 2
        assert all(later >= earlier for points in run.cpu for (_, earlier), (_, later) in itertools.pairwise(points))


def test_a_request_that_fails_within_the_client_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load must not look like one with fewer requests."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)

    async def fail() -> RequestRecord:
        raise RuntimeError("session is closed")

    async def end() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        load = SimpleNamespace(pending={task: None}, records=[])
        with pytest.raises(RuntimeError):
            client_process._Load._ended(cast(Any, load), task)

    asyncio.run(end())
    assert codes == [1]
