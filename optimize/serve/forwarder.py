"""Forwards requests to whichever engine is up, and retries those whose engine died.

A request is sent again while nothing of its answer has been passed on. After that it ends in a clear error, because a
second engine cannot continue where the first left off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from optimize.config.serve import Serve
from optimize.serve.instance import Instance
from optimize.serve.responses import error_body, headers_to_client, headers_to_engine, refusal
from optimize.serve.supervisor import Supervisor

_DETECTION_S = 1.0  # how long the supervisor may take to detect what a broken connection was the first sign of
_ERROR_EVENT = b'data: {"error"'
# Idle connections close before vLLM closes them (5 s), so that no request is sent into a closing connection.
_KEEPALIVE_S = 2.0
_OWN_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


@dataclass
class Counts:
    """Counters of the front since its start; /metrics reports them under these names."""

    requests: int = 0
    retried: int = 0
    lost: int = 0
    broken_off: int = 0
    refused_beams: int = 0
    clamped_beams: int = 0
    left: int = 0
    """Clients that disconnected before their answer was complete."""


@dataclass
class Exchange:
    """One request under way.

    Attributes:
        request: The client's request.
        method: The method by which the engine is asked.
        path: The path that it is asked for.
        body: The body that the engine gets; empty for none.
        headers: Headers added to the response.
        response: The response, once part of it has been passed on.
    """

    request: web.Request
    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    response: web.StreamResponse | None = None


class _EngineDied(Exception):
    """The engine's answer broke off, or never began."""


class Forwarder:
    """Sends requests to the supervised engine; an asynchronous context manager that holds the connections.

    Args:
        supervisor: Keeps the engine up.
        settings: Limits and timeouts.
        counts: Counters to add to.
    """

    def __init__(self, supervisor: Supervisor, settings: Serve, counts: Counts) -> None:
        self._supervisor, self._settings, self._counts = supervisor, settings, counts
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Forwarder:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
        timeout = aiohttp.ClientTimeout(total=None)
        self._http = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    def engine_changed(self) -> None:
        """Wake requests that wait for an engine."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def engine_metrics(self) -> str:
        """Text of the engine's /metrics; empty where it does not answer in time."""
        current = self._supervisor.current
        if current is None:
            return ""
        endpoint, timeout = current.engine.endpoint, aiohttp.ClientTimeout(total=self._settings.probe_timeout_s)
        try:
            async with self._http.get(
                f"{endpoint.base_url}/metrics", headers=endpoint.headers, timeout=timeout
            ) as answer:  # fmt: skip
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def forward(self, exchange: Exchange) -> web.StreamResponse:
        """Send a request until an engine answers it, at most `serve.retries` times again."""
        for attempt in range(self._settings.retries + 1):
            current = await self._engine()
            if current is None:
                self._counts.lost += 1
                return refusal(503, "no engine came back in time (serve.wait_s): try again later", retry_after_s=5)
            self._counts.retried += attempt > 0
            try:
                return await self._attempt(exchange, current)
            except _EngineDied:
                if exchange.response is not None:
                    return await self._break_off(exchange)
                await self._failure_detected(current)
        self._counts.lost += 1
        return refusal(502, "the engine died while it answered: send the request again", retry_after_s=1)

    async def _engine(self) -> Instance | None:
        """The engine that is up, waiting for one if necessary; None if none comes up in time."""
        try:
            async with asyncio.timeout(self._settings.wait_s):
                while (current := self._supervisor.current) is None:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return current

    async def _failure_detected(self, suspect: Instance) -> bool:
        """Wait until the supervisor has detected that an engine is gone; False if it holds that it is not."""
        self._supervisor.check_now()
        try:
            async with asyncio.timeout(_DETECTION_S):
                while self._supervisor.current is suspect:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _attempt(self, exchange: Exchange, current: Instance) -> web.StreamResponse:
        """One attempt on one engine.

        Raises:
            _EngineDied: the answer did not reach its end.
        """
        request, endpoint = exchange.request, current.engine.endpoint
        headers = {**headers_to_engine(request.headers), **_OWN_HEADERS, **endpoint.headers}
        try:
            async with self._http.request(
                exchange.method, f"{endpoint.base_url}{exchange.path}", data=exchange.body or None, headers=headers,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                await self._copy(exchange, answer, current)
        except (aiohttp.ClientConnectionResetError, ConnectionResetError) as error:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client disconnected") from error
            raise _EngineDied from error
        except aiohttp.ClientError as error:
            raise _EngineDied from error
        assert exchange.response is not None
        with contextlib.suppress(ConnectionResetError):  # clients of streams disconnect after the last event
            async with self._patience(exchange):
                await exchange.response.write_eof()
        return exchange.response

    async def _copy(self, exchange: Exchange, answer: aiohttp.ClientResponse, current: Instance) -> None:
        """Pass an answer on chunk by chunk; the headers wait for the first chunk."""
        chunks = answer.content.iter_any()
        first = await anext(chunks, b"")
        if (answer.status >= 500 or first.startswith(_ERROR_EVENT)) and await self._failure_detected(current):
            raise _EngineDied
        headers = {**headers_to_client(answer.headers), **exchange.headers}
        response = web.StreamResponse(status=answer.status, headers=headers)
        if "Content-Length" in answer.headers:
            response.content_length = int(answer.headers["Content-Length"])
        await response.prepare(exchange.request)
        exchange.response = response
        async with self._patience(exchange):
            await response.write(first)
        async for chunk in chunks:
            async with self._patience(exchange):
                await response.write(chunk)

    @contextlib.asynccontextmanager
    async def _patience(self, exchange: Exchange) -> AsyncIterator[None]:
        """Wait for the client to take a piece of its answer, or disconnect it.

        Raises:
            ConnectionResetError: it does not take it in time.
        """
        try:
            async with asyncio.timeout(self._settings.client_timeout_s):
                yield
        except TimeoutError as error:
            if exchange.request.transport is not None:
                exchange.request.transport.abort()
            raise ConnectionResetError("the client does not take its answer") from error

    async def _break_off(self, exchange: Exchange) -> web.StreamResponse:
        """End an answer that was partly passed on: by an error event in a stream, else by closing the connection."""
        response = exchange.response
        assert response is not None
        self._counts.broken_off += 1
        self._counts.lost += 1
        if response.headers.get("Content-Type", "").startswith("text/event-stream"):
            error = error_body(502, "the engine died in the middle of this answer: send the request again")
            await response.write(b"\n\ndata: " + json.dumps(error).encode() + b"\n\n")
            await response.write_eof()
        elif exchange.request.transport is not None:
            exchange.request.transport.close()
        return response
