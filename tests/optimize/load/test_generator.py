"""The load against a real HTTP server that misbehaves in every way a server can."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from aiohttp import web

from objectives import Measurement, MemoryParts, RequestRecord
from objectives.latency import LatencyQuantile
from optimize.config.measuring import Load
from optimize.engine.base import Endpoint, RequestConfig
from optimize.errors import EngineFailure, FailureKind, TransientFault
from optimize.load.arrivals import Arrivals, ClosedLoop, Constant, Poisson, Ramp, Steps
from optimize.load.client import request_body
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Glimpse, LoadResult, Precise, Traffic, run_load
from optimize.load.workload import Workload
from tests.conftest import ROOT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
WORKLOAD = Workload("test", ["one", "two", "three"], ["1", "2", "3"], max_tokens=5)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


class Stub:
    """An engine whose server runs in a thread of this process."""

    def __init__(self, port: int) -> None:
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}", "key", "model")
        self.pids: Sequence[int] = ()
        self.dead = False

    def check(self) -> None:
        if self.dead:
            raise EngineFailure(FailureKind.CRASH, "died")

    def reset(self) -> None: ...

    def memory(self) -> MemoryParts | None:
        return None

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return {}

    def stop(self) -> None: ...


@contextmanager
def serving(handler: Handler) -> Iterator[Stub]:
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Stub(port)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        with warnings.catch_warnings():  # a connection that was just being accepted is nobody's to close
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="module")
def clients() -> Iterator[ClientPool]:
    with ClientPool() as made:
        yield made


def measure(
    clients: ClientPool, stub: Stub, arrivals: Arrivals, request: RequestConfig | None = None,
    workload: Workload = WORKLOAD,
    phase: Callable[[str], None] = lambda _: None, precise: Precise = lambda _: True, **load: float,
) -> LoadResult:  # fmt: skip
    # Long limits: a window ends with its answers, however little of a processor the test is given.
    settings: dict[str, Any] = {
        "warmup_s": 0.1, "warmup_requests": 1, "warmup_max_s": 30.0, "window_min_s": 0.5, "window_requests": 5,
        "window_max_s": 30.0, "drain_max_s": 30.0, "request_timeout_s": 60.0, **load,
    }  # fmt: skip
    traffic = Traffic(workload, request or RequestConfig(), arrivals, Load(arrivals=None, **settings))
    return run_load(clients, stub, traffic, phase, precise=precise)


async def stream(request: web.Request, tokens: Sequence[str] = ("a", "b"), delay_s: float = 0.01) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for token in tokens:
        await asyncio.sleep(delay_s)
        await response.write(f"data: {json.dumps({'choices': [{'text': token}]})}\n\n".encode())
    await response.write(f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\ndata: [DONE]\n\n".encode())
    return response


async def slow_stream(request: web.Request) -> web.StreamResponse:
    return await stream(request, delay_s=0.15)


def ended_in_window(result: LoadResult) -> list[RequestRecord]:
    return [r for r in result.records if result.window_start_s <= r.due_s < result.window_end_s]


def test_streamed_answers_carry_text_tokens_and_ordered_times(clients: ClientPool) -> None:
    with serving(stream) as stub:
        result = measure(clients, stub, ClosedLoop(users=2))
    for record in ended_in_window(result):
        assert record.error is None and record.text == "ab"
        assert (record.prompt_tokens, record.output_tokens) == (3, 2)
        assert record.first_token_s is not None
        assert record.due_s <= record.sent_s <= record.first_token_s <= record.done_s


def test_beam_requests_do_not_stream_and_take_the_best_choice(clients: ClientPool) -> None:
    seen: list[dict[str, Any]] = []

    async def beams(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return web.json_response({"choices": [{"text": "best"}, {"text": "second"}], "usage": USAGE})

    with serving(beams) as stub:
        result = measure(clients, stub, ClosedLoop(users=1, think_s=0.01), RequestConfig(beam_size=2))
    assert all(r.text == "best" and r.first_token_s is None and r.output_tokens == 1 for r in result.records)
    assert seen[0]["use_beam_search"] is True and seen[0]["n"] == 2 and "stream" not in seen[0]


def test_chat_messages_go_to_the_chat_endpoint(clients: ClientPool) -> None:
    paths: list[str] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        body = await request.json()
        assert body["messages"] == [{"role": "user", "content": "hi"}]
        return web.json_response({"choices": [{"message": {"content": "yo"}}], "usage": USAGE})

    workload = Workload("chat", [[{"role": "user", "content": "hi"}]], ["yo"], 5)
    with serving(chat) as stub:
        result = measure(clients, stub, ClosedLoop(users=1, think_s=0.01), RequestConfig(beam_size=2), workload)
    assert set(paths) == {"/v1/chat/completions"} and result.records[0].text == "yo"


def test_more_than_a_hundred_requests_are_in_flight_at_once(clients: ClientPool) -> None:
    in_flight = most = 0
    loading = False
    full = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        if most == 150:
            full.set()
        try:
            if loading:
                await asyncio.wait_for(full.wait(), 30)
            return await stream(request)
        finally:
            in_flight -= 1

    def phase(name: str) -> None:
        nonlocal loading
        loading = name != "first answers"

    with serving(slow) as stub:
        measure(clients, stub, ClosedLoop(users=150), phase=phase)
    assert most == 150


@pytest.mark.parametrize("arrivals", [ClosedLoop(users=3), Poisson(rate_per_s=30)])
def test_a_stall_of_the_server_shows_in_the_latencies(clients: ClientPool, arrivals: Arrivals) -> None:
    """Coordinated omission: requests due during a freeze have waited since they were due."""
    measuring_since = math.inf

    async def freezing(request: web.Request) -> web.StreamResponse:
        since = time.monotonic() - measuring_since
        if 0.2 < since < 0.7:  # every answer waits for the freeze to end
            await asyncio.sleep(0.7 - since)
        return await stream(request, delay_s=0.04)  # so few answers that those that were held up are one in a hundred

    def phase(name: str) -> None:
        nonlocal measuring_since
        if name == "measuring":
            measuring_since = time.monotonic()

    with serving(freezing) as stub:
        result = measure(clients, stub, arrivals, phase=phase, window_min_s=4.0, window_requests=10)
    p99 = LatencyQuantile(0.99).estimate(
        Measurement(result.records, result.window_start_s, result.window_end_s, references={})
    )
    assert p99 is not None and p99.value > 0.4


def test_the_load_goes_on_while_the_last_requests_of_the_window_drain(clients: ClientPool) -> None:
    with serving(slow_stream) as stub:
        result = measure(clients, stub, ClosedLoop(users=4))
    late = [r for r in result.records if r.due_s >= result.window_end_s]
    slowest = max(r.done_s for r in ended_in_window(result))
    assert all(r.error is None for r in ended_in_window(result))
    assert slowest > result.window_end_s
    assert late == [] or min(r.due_s for r in late) < slowest


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, "too many beams", "refused"),
        (503, "overloaded", "server"),
        (200, "data: {broken\n\n", "malformed"),
        (200, 'data: {"choices": [{"text": "a"}]}\n\n', "malformed"),  # ends without its end mark
        (200, 'data: {"error": {"message": "engine died"}}\n\n', "server"),
    ],
)
def test_each_way_to_fail_is_counted_as_what_it_is(clients: ClientPool, status: int, body: str, error: str) -> None:
    count = 0

    async def failing(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        answers = bool(count % 2)
        await asyncio.sleep(0.01)
        if answers:
            return await stream(request)
        return web.Response(status=status, text=body)

    with serving(failing) as stub:
        result = measure(clients, stub, ClosedLoop(users=2))
    errors = {r.error for r in ended_in_window(result)}
    assert errors == {None, error}


def test_a_request_that_is_never_answered_times_out(clients: ClientPool) -> None:
    count = 0

    async def hanging(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count == 12:  # after the first answers
            await asyncio.sleep(60)
        return await stream(request)

    with serving(hanging) as stub:
        result = measure(clients, stub, ClosedLoop(users=2), request_timeout_s=1.5, window_min_s=2.0)
    lost = [r for r in result.records if r.error == "timeout"]
    assert lost and all(1.4 < r.latency_s < 30 for r in lost)


def test_a_reset_connection_is_an_error_and_hangs_nothing(clients: ClientPool) -> None:
    count = 0

    async def resetting(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count % 3 == 0 and request.transport is not None:
            request.transport.abort()
        return await stream(request)

    with serving(resetting) as stub:
        result = measure(clients, stub, ClosedLoop(users=2))
    assert {r.error for r in ended_in_window(result)} == {None, "connection"}


def test_a_server_that_answers_nothing_is_too_slow(clients: ClientPool) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        raise AssertionError

    with serving(silent) as stub, pytest.raises(EngineFailure) as caught:
        measure(clients, stub, ClosedLoop(users=2), first_answer_max_s=0.5)
    assert caught.value.kind is FailureKind.TOO_SLOW


def test_a_server_that_refuses_everything_says_why(clients: ClientPool) -> None:
    async def refusing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text="beam width exceeds max_logprobs")

    with serving(refusing) as stub, pytest.raises(EngineFailure, match="beam width exceeds max_logprobs"):
        measure(clients, stub, ClosedLoop(users=2), warmup_max_s=0.3)


def test_what_first_answers_compiled_or_cached_is_forgotten_before_the_load(clients: ClientPool) -> None:
    seen: list[str] = []
    with serving(stream) as stub:
        stub.reset = lambda: seen.append("reset")  # type: ignore[method-assign]
        measure(clients, stub, ClosedLoop(users=2), phase=seen.append)
    assert seen[:3] == ["first answers", "reset", "warm-up"]


def test_the_death_of_the_engine_ends_the_load(clients: ClientPool) -> None:
    with serving(stream) as stub:
        threading.Timer(0.5, lambda: setattr(stub, "dead", True)).start()
        with pytest.raises(EngineFailure, match="died"):
            measure(clients, stub, ClosedLoop(users=2), window_min_s=20, window_max_s=30)


def test_open_loop_requests_are_due_on_schedule_whatever_the_server_does(clients: ClientPool) -> None:
    with serving(slow_stream) as stub:
        result = measure(clients, stub, Poisson(rate_per_s=40), window_min_s=1.0, window_requests=10)
    due = [r.due_s for r in ended_in_window(result)]
    schedule = Poisson(rate_per_s=40).due_times_s(0)
    times = (next(schedule) for _ in range(4000))
    expected = [t for t in times if result.window_start_s <= t < result.window_end_s]
    assert sorted(due) == pytest.approx(expected)


def test_greedy_requests_ask_for_greedy_decoding() -> None:
    body = request_body("m", RequestConfig(), 7)
    assert body["temperature"] == 0.0 and body["max_tokens"] == 7 and body["stream"] is True
    assert request_body("m", RequestConfig(fields=(("temperature", 0.5),)), 7)["temperature"] == 0.5


@pytest.mark.parametrize(("give_up_s", "waits"), [(0.4, False), (None, True)])
def test_without_a_single_answer_the_load_is_given_up_when_told_and_not_before(
    clients: ClientPool, give_up_s: float | None, waits: bool
) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        return await stream(request, delay_s=0.6)

    with serving(slow) as stub:
        load = Load(arrivals=None, warmup_s=0.1, warmup_requests=1, warmup_max_s=0.3, window_min_s=1, window_requests=5)
        traffic = Traffic(WORKLOAD, RequestConfig(), ClosedLoop(users=4), load)
        run = functools.partial(run_load, clients, stub, traffic, first_answers=False, give_up_s=give_up_s)
        if waits:
            assert run().records
        else:
            with pytest.raises(EngineFailure, match=r"0 answers in \d+ s of warm-up"):
                run()


def test_the_window_opens_where_the_slow_start_ends(clients: ClientPool) -> None:
    answered = 0

    async def slow_at_first(request: web.Request) -> web.StreamResponse:
        nonlocal answered
        answered += 1
        return await stream(request, delay_s=0.01 + 0.4 * math.exp(-answered / 25))

    with serving(slow_at_first) as stub:
        result = measure(clients, stub, ClosedLoop(users=4), window_requests=60)
    slow = [r.latency_s > 0.1 for r in result.records]
    in_window = [r.latency_s > 0.1 for r in ended_in_window(result)]
    assert sum(slow) >= 20 and sum(in_window) <= sum(slow) / 3
    assert result.drift is None


@pytest.mark.parametrize(
    ("arrivals", "per_request_s", "drift", "overload"),
    [
        (ClosedLoop(users=2), 0.0005, True, False),  # users wait: a queue cannot grow
        (Constant(rate_per_s=30), 0.0005, False, True),
        (Constant(rate_per_s=30), -0.0005, True, False),
    ],
)
def test_who_is_to_blame_where_speed_changes_all_the_time(
    clients: ClientPool, arrivals: Arrivals, per_request_s: float, drift: bool, overload: bool
) -> None:
    served = 0

    async def ever_changing(request: web.Request) -> web.StreamResponse:
        nonlocal served
        served += 1
        return await stream(request, delay_s=max(0.0, (0.0 if per_request_s > 0 else 0.1) + per_request_s * served))

    with serving(ever_changing) as stub:
        result = measure(clients, stub, arrivals, warmup_max_s=3.0, window_min_s=3.0, window_requests=90)
    for said, expected in ((result.drift, drift), (result.overload, overload)):
        assert ("mean latency went from" in (said or "")) == expected


def test_a_window_stays_open_until_it_is_precise_or_at_its_longest(clients: ClientPool) -> None:
    asked: list[float] = []

    def precise(seen: Glimpse) -> bool:
        asked.append(seen.end_s - seen.start_s)
        return asked[-1] > 1.5

    with serving(stream) as stub:
        patient = measure(clients, stub, ClosedLoop(users=2), precise=precise)
        never = measure(clients, stub, ClosedLoop(users=2), precise=lambda _: False, window_max_s=1.0)
    assert 1.5 < patient.window_end_s - patient.window_start_s < 20
    assert asked[0] >= 0.5
    assert never.window_end_s - never.window_start_s >= 1.0


@pytest.mark.parametrize("arrivals", [Ramp(10.0, 60.0, ramp_s=2.0), Steps([10.0, 60.0], step_s=1.0, random=False)])
def test_a_profile_is_measured_from_its_start_to_its_end(clients: ClientPool, arrivals: Ramp | Steps) -> None:
    with serving(stream) as stub:
        result = measure(clients, stub, arrivals)
    due = sorted(r.due_s - result.window_start_s for r in ended_in_window(result))
    expected = list(itertools.takewhile(lambda t: t < 2.0, arrivals.due_times_s(0)))
    assert due == pytest.approx(expected)
    assert result.window_end_s - result.window_start_s == pytest.approx(2.0)
    assert any(r.due_s < result.window_start_s for r in result.records)  # warmed up before
    assert (result.audit.asked, result.audit.sent) == (len(expected), len(expected))
    assert result.drift is None


@pytest.mark.parametrize("arrivals", [ClosedLoop(users=5), Poisson(rate_per_s=40)])
def test_processes_share_a_load_without_losing_or_doubling_a_request(arrivals: Arrivals) -> None:
    with ClientPool(2) as pair, serving(stream) as stub:
        result = measure(pair, stub, arrivals, window_min_s=1.0)
        assert len(pair.pids) == 2
    assert result.audit.processes == 2
    if isinstance(arrivals, ClosedLoop):
        assert max_together(result.records) == 5
    else:
        times = itertools.takewhile(lambda t: t < result.window_end_s, arrivals.due_times_s(0))
        expected = [t for t in times if t >= result.window_start_s]
        assert sorted(r.due_s for r in ended_in_window(result)) == pytest.approx(expected)
        assert result.audit.asked == len(expected)


def max_together(records: Sequence[RequestRecord]) -> int:
    """Most requests in flight at once."""
    steps = sorted([(r.sent_s, 1) for r in records] + [(r.done_s, -1) for r in records])
    return max(itertools.accumulate(step for _, step in steps))


def test_a_user_is_due_again_when_answered_however_late_the_client(clients: ClientPool) -> None:
    with serving(stream) as stub:
        result = measure(clients, stub, ClosedLoop(users=1, think_s=0.02))
    ordered = sorted(result.records, key=lambda r: r.due_s)
    gaps = [b.due_s - a.done_s for a, b in itertools.pairwise(ordered)]
    assert gaps == pytest.approx([0.02] * len(gaps), abs=1e-6)


def test_a_client_process_that_is_killed_is_a_passing_fault_and_the_next_load_works() -> None:
    with ClientPool() as own, serving(stream) as stub:
        measure(own, stub, ClosedLoop(users=2))
        threading.Timer(0.5, lambda: os.kill(own.pids[0], signal.SIGKILL)).start()
        with pytest.raises(TransientFault, match="client process"):
            measure(own, stub, ClosedLoop(users=2), window_min_s=20)
        assert measure(own, stub, ClosedLoop(users=2)).records


def test_client_processes_end_with_the_crew() -> None:
    with ClientPool(2) as own:
        own.begin()
        pids = own.pids
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_client_processes_end_with_a_parent_that_is_killed() -> None:
    script = (
        "from optimize.load.client_pool import Crew; crew = Crew(2); crew.begin(); "
        "print(*crew.pids, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        clients = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    gone, alive = psutil.wait_procs(clients, timeout=30)
    assert len(gone) == 2 and alive == []


def test_a_crew_grows_up_to_its_limit() -> None:
    clients = ClientPool(1)
    assert [clients.grow(3), clients.size, clients.grow(3), clients.size, clients.grow(3)] == [True, 2, True, 3, False]


def test_answers_run_to_their_length_and_a_recorded_order_is_kept(clients: ClientPool) -> None:
    seen: list[tuple[str, int, bool]] = []

    async def noting(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append((body["prompt"], body["max_tokens"], body.get("ignore_eos", False)))
        return await stream(request)

    workload = Workload("test", ["one", "two", "three"], [], 9, output_tokens=[3, 9, 6], in_order=True)
    with serving(noting) as stub:
        result = measure(clients, stub, Steps([20.0, 20.0], step_s=1.0, random=False), workload=workload)
    assert set(seen[:5]) <= {("one", 3, True), ("two", 4, True), ("three", 4, True)}  # the first answers are short
    assert {("one", 3, True), ("two", 9, True), ("three", 6, True)} <= set(seen[5:])
    in_window = sorted(ended_in_window(result), key=lambda r: r.due_s)
    assert [r.prompt_id for r in in_window[:7]] == [0, 1, 2, 0, 1, 2, 0]  # from the start, whatever warmed up


def test_a_window_is_cut_short_where_it_is_hopeless_and_says_why(clients: ClientPool) -> None:
    asked: list[float] = []

    def hopeless(seen: Glimpse) -> str | None:
        asked.append(seen.end_s - seen.start_s)
        return "beaten" if len(asked) == 2 else None

    with serving(stream) as stub:
        load = Load(
            warmup_s=0.2, warmup_requests=2, warmup_max_s=1.0, window_look_s=0.5, window_min_s=20, window_max_s=20,
        )  # fmt: skip
        traffic = Traffic(WORKLOAD, RequestConfig(), ClosedLoop(users=2), load)
        result = run_load(clients, stub, traffic, hopeless=hopeless)
    assert result.cut_short == "beaten"
    assert asked[0] >= 0.5
    assert result.window_end_s - result.window_start_s < 20


def test_rows_whose_answers_are_known_are_asked_last(clients: ClientPool) -> None:
    known = range(1, len(WORKLOAD.prompts))
    with serving(stream) as stub:
        load = Load(warmup_s=0.2, warmup_requests=2, warmup_max_s=1.0, window_min_s=0.2, window_requests=8)
        result = run_load(clients, stub, Traffic(WORKLOAD, RequestConfig(), ClosedLoop(users=1), load, 0, known))
    assert min(result.records, key=lambda r: r.due_s).prompt_id == 0
