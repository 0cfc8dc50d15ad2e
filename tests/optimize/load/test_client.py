"""One request to a real HTTP server, which answers, or fails in every way that a server can."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from objectives import RequestRecord
from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.client import Client
from optimize.load.protocol import Bounds
from optimize.load.request_body import request_body
from optimize.load.session import open_session
from optimize.workload.workload import Prompt

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


async def stream(request: web.Request, tokens: Sequence[str] = ("a", "b")) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for token in tokens:
        await response.write(f"data: {json.dumps({'choices': [{'text': token}]})}\n\n".encode())
    await response.write(f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\ndata: [DONE]\n\n".encode())
    return response


def send(
    handler: Handler, prompt: Prompt = "hello", request: RequestConfig | None = None, timeout_s: float = 60,
    length: int | None = None, limit: int | None = None, others: tuple[str, ...] = (),
) -> RequestRecord:  # fmt: skip
    """The record of one request that was due at second 0."""

    async def exchange() -> RequestRecord:
        app = web.Application()
        app.router.add_post("/v1/completions", handler)
        app.router.add_post("/v1/chat/completions", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = Endpoint(f"http://127.0.0.1:{runner.addresses[0][1]}", "key", "model", others=others)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with open_session(endpoint) as session:
                clock = lambda: loop.time() - began  # noqa: E731
                client = Client(session, endpoint, request or RequestConfig(), Bounds(7, timeout_s), clock)
                return await client.send(5, prompt, 0.0, length, limit)
        finally:
            await runner.cleanup()

    return asyncio.run(exchange())


def test_a_streamed_answer_carries_text_tokens_and_ordered_times() -> None:
    record = send(stream)
    assert (record.prompt_id, record.error, record.text) == (5, None, "ab")
    assert (record.prompt_tokens, record.output_tokens) == (3, 2)
    assert record.first_token_s is not None
    assert 0.0 == record.due_s <= record.sent_s <= record.first_token_s <= record.done_s


def test_the_first_token_is_timed_when_it_arrives_and_not_at_the_end() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(f"data: {json.dumps({'choices': [{'text': 'a'}]})}\n\n".encode())
        await asyncio.sleep(0.2)
        await response.write(b"data: [DONE]\n\n")
        return response

    record = send(slow)
    assert record.first_token_s is not None and record.done_s - record.first_token_s > 0.1


@pytest.mark.parametrize(("others", "asked"), [((), "model"), (("sql",), "sql"), (("sql", "chat"), "chat")])
def test_a_prompt_asks_for_the_adapter_of_its_row(others: tuple[str, ...], asked: str) -> None:
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await stream(request)

    assert send(handler, others=others).error is None  # of row 5
    assert [body["model"] for body in bodies] == [asked]


def test_beam_requests_do_not_stream_and_take_the_best_choice() -> None:
    bodies: list[dict[str, Any]] = []

    async def beams(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response({"choices": [{"text": "best"}, {"text": "second"}], "usage": USAGE})

    record = send(beams, request=RequestConfig(beam_size=2))
    assert (record.text, record.first_token_s, record.output_tokens) == ("best", None, 1)
    assert bodies[0]["use_beam_search"] is True and bodies[0]["n"] == 2 and "stream" not in bodies[0]


def test_chat_messages_go_to_the_chat_endpoint() -> None:
    async def chat(request: web.Request) -> web.StreamResponse:
        assert request.path == "/v1/chat/completions"
        assert (await request.json())["messages"] == [{"role": "user", "content": "hi"}]
        return web.json_response({"choices": [{"message": {"content": "yo"}}], "usage": USAGE})

    record = send(chat, [{"role": "user", "content": "hi"}], RequestConfig(beam_size=2))
    assert (record.error, record.text) == (None, "yo")


@pytest.mark.parametrize(
    ("length", "limit", "expected"),
    [(None, None, (7, False)), (4, None, (4, True)), (None, 3, (3, False)), (None, 90, (7, False))],
)
def test_an_answer_ends_by_itself_or_runs_to_its_length(
    length: int | None, limit: int | None, expected: tuple[int, bool]
) -> None:
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await stream(request)

    send(handler, length=length, limit=limit)
    assert (bodies[0]["max_tokens"], bodies[0].get("ignore_eos", False)) == expected


def test_requests_carry_the_endpoints_key() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer key":
            return web.Response(status=401)
        return await stream(request)

    assert send(handler).error is None


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (400, "too many beams", "refused", "too many beams"),
        (503, "overloaded", "server", "overloaded"),
        (200, "data: {broken\n\n", "malformed", "no JSON: {broken"),
        (
            200,
            'data: {"choices": [{"text": "a"}]}\n\n',
            "malformed",
            'the answer broke off: data: {"choices": [{"text": "a"}]}\n\n',
        ),
        (200, 'data: {"error": {"message": "engine died"}}\n\n', "aborted", "engine died"),
    ],
)
def test_each_way_to_fail_has_its_own_name(status: int, body: str, error: str, text: str) -> None:
    async def failing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body)

    record = send(failing)
    assert (record.error, record.text) == (error, text)


def test_a_beam_answer_that_is_no_answer_is_malformed() -> None:
    async def empty(request: web.Request) -> web.StreamResponse:
        return web.json_response({"choices": []})

    assert send(empty, request=RequestConfig(beam_size=2)).error == "malformed"


def test_a_reset_connection_is_an_error_of_its_own() -> None:
    async def resetting(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert send(resetting).error == "connection"


def test_a_request_that_is_never_answered_times_out() -> None:
    async def hanging(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(600)
        raise AssertionError

    record = send(hanging, timeout_s=0.3)
    assert record.error == "timeout" and record.latency_s > 0.29


def test_greedy_requests_ask_for_greedy_decoding() -> None:
    body = request_body(Endpoint("", None, "m"), RequestConfig(), 7)
    assert body["temperature"] == 0.0 and body["max_tokens"] == 7 and body["stream"] is True
    assert request_body(Endpoint("", None, "m"), RequestConfig(fields=(("temperature", 0.5),)), 7)["temperature"] == 0.5
