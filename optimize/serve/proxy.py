"""The front: one address that stays while engines come and go behind it.

Answers are passed on as they come. A request whose engine dies is sent again while nothing of its answer has been
passed on; after that it ends in a clear error, for a second engine may not go on where the first left off. Of the
engine's own paths only the API is passed on, never its development endpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from optimize.config.serve import Serve
from optimize.serve.beam_limit import BeamLimit, Verdict
from optimize.serve.instance import Running
from optimize.serve.responses import error_body, passed, refusal
from optimize.serve.supervisor import Supervisor

_GENERATES = ("/v1/completions", "/v1/chat/completions")
_SETTLE_S = 1.0  # how long the supervisor may take to notice what a broken connection was the first sign of
_CLIENT_LEFT = 499  # never seen by anybody
_ERROR_EVENT = b'data: {"error"'
_MAX_BODY_BYTES = 64 << 20


@dataclass
class Counts:
    """What the front did since it began."""

    requests: int = 0
    retried: int = 0
    lost: int = 0
    broken_off: int = 0
    refused_beams: int = 0
    clamped_beams: int = 0
    left: int = 0
    """Clients that went away before their answer was complete."""


@dataclass
class _Exchange:
    """One request under way. `response` exists once something was passed on."""

    request: web.Request
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    response: web.StreamResponse | None = None


class _EngineDied(Exception):
    """The engine's answer broke off, or never began."""


class Proxy:
    """The application behind the front's address.

    Args:
        supervisor: Keeps the engine up.
        settings: Limits and timeouts.
        limit: Of beams.
        api_key: What clients must send; None where none is asked for.
    """

    def __init__(self, supervisor: Supervisor, settings: Serve, limit: BeamLimit, api_key: str | None) -> None:
        self._supervisor, self._settings, self._api_key = supervisor, settings, api_key
        self.limit, self.counts = limit, Counts()
        self.draining, self.in_flight = False, 0
        self._changed = asyncio.Event()
        self._observed: Mapping[str, float] = {}

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/metrics", self.metrics),
                web.route("*", "/v1/{tail:.*}", self.api),
            ]
        )
        app.cleanup_ctx.append(self._session)
        return app

    async def _session(self, _: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        self._supervisor.subscribe(lambda: _call_soon(loop, self._on_change))
        # Given up before vLLM gives them up (5 s), so that no request is sent into a connection that closes.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._http:
            yield

    def _on_change(self) -> None:
        figures = self._supervisor.figures
        if figures is not self._observed:  # each reading counts once
            self._observed = figures
            self.limit.observe(figures.get("kv_cache_use", 0.0), figures.get("requests_waiting", 0.0))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # -- what the front answers itself

    async def health(self, _: web.Request) -> web.Response:
        if self.draining:
            return web.json_response({"status": "draining"}, status=503)
        current = self._supervisor.current
        state = {"status": "up" if current else "restarting", "standby": self._supervisor.standby_ready}
        return web.json_response(state, status=200 if current else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        """The engine's metrics, and the front's own."""
        own = "\n".join(self._own_metrics()) + "\n"
        current = self._supervisor.current
        if current is None:
            return web.Response(text=own)
        endpoint = current.engine.endpoint
        limit = aiohttp.ClientTimeout(total=self._settings.probe_timeout_s)
        try:
            async with self._http.get(
                f"{endpoint.base_url}/metrics", headers=endpoint.headers, timeout=limit
            ) as answer:  # fmt: skip
                return web.Response(text=await answer.text() + own)
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(text=own)

    def _own_metrics(self) -> list[str]:
        figures = {
            "engine_up": float(self._supervisor.current is not None),
            "standby_ready": float(self._supervisor.standby_ready),
            "beam_limit": float(self.limit.limit),
            "requests_in_flight": float(self.in_flight),
        }
        lines = [f"# TYPE optimize:{name} gauge\noptimize:{name} {value:g}" for name, value in figures.items()]
        counts = {**vars(self.counts), "restarts": sum(r.how != "failed" for r in self._supervisor.restarts.read())}
        return lines + [f"# TYPE optimize:{k}_total counter\noptimize:{k}_total {v}" for k, v in counts.items()]

    # -- what it passes on

    async def api(self, request: web.Request) -> web.StreamResponse:
        if self.draining:
            return refusal(503, "this server is shutting down: send the request to another one")
        if not self._authorized(request):
            return refusal(401, "the API key is missing or wrong: send it as a bearer token")
        self.counts.requests += 1
        exchange = _Exchange(request, await request.read())
        verdict = self._judge(exchange)
        if verdict.beams == 0:
            self.counts.refused_beams += 1
            return refusal(400, verdict.reason, param="n")
        if verdict.reason:
            self.counts.clamped_beams += 1
        async with self._flying(verdict.beams):
            try:
                return await self._pass_on(exchange)
            except ConnectionResetError:
                self.counts.left += 1
                return exchange.response or web.Response(status=_CLIENT_LEFT)

    def _authorized(self, request: web.Request) -> bool:
        if self._api_key is None:
            return True
        sent = request.headers.get("Authorization", "")
        return hmac.compare_digest(sent.encode(), f"Bearer {self._api_key}".encode())

    def _judge(self, exchange: _Exchange) -> Verdict:
        """The limit of beams on a request; one that is clamped carries fewer from here on."""
        if exchange.request.path not in _GENERATES or b"use_beam_search" not in exchange.body:
            return Verdict(1, 1)
        try:
            body: Any = json.loads(exchange.body)
        except ValueError:
            return Verdict(1, 1)  # the engine says what is wrong with it
        if not isinstance(body, dict):
            return Verdict(1, 1)
        verdict = self.limit.judge(body)
        if 0 < verdict.beams < verdict.asked:
            exchange.body = json.dumps({**body, "n": verdict.beams}).encode()
            exchange.headers["X-Beam-Limit"] = str(verdict.beams)
        return verdict

    @contextlib.asynccontextmanager
    async def _flying(self, beams: int) -> AsyncIterator[None]:
        self.in_flight += 1
        self.limit.enter(beams)
        try:
            yield
        except asyncio.CancelledError:
            self.counts.left += 1
            raise
        finally:
            self.in_flight -= 1
            self.limit.leave(beams)

    async def _pass_on(self, exchange: _Exchange) -> web.StreamResponse:
        """Send the request until an engine answers it, as far as that is allowed."""
        for attempt in range(self._settings.retries + 1):
            current = await self._engine()
            if current is None:
                self.counts.lost += 1
                return refusal(503, "no engine came back in time (serve.wait_s): try again later", retry_after_s=5)
            self.counts.retried += attempt > 0
            try:
                return await self._exchange(exchange, current)
            except _EngineDied:
                if exchange.response is not None:
                    return await self._break_off(exchange)
                await self._settled(current)
        self.counts.lost += 1
        return refusal(502, "the engine died while it answered: send the request again", retry_after_s=1)

    async def _engine(self) -> Running | None:
        """The engine that is up, waiting for one where that is needed; None if none comes in time."""
        try:
            async with asyncio.timeout(self._settings.wait_s):
                while (current := self._supervisor.current) is None:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return current

    async def _settled(self, used: Running) -> bool:
        """Wait until the supervisor has noticed that an engine is gone; False if it thinks that it is not."""
        self._supervisor.look_now()
        try:
            async with asyncio.timeout(_SETTLE_S):
                while self._supervisor.current is used:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _exchange(self, exchange: _Exchange, current: Running) -> web.StreamResponse:
        """One attempt on one engine.

        Raises:
            _EngineDied: it did not answer to the end.
        """
        request, endpoint = exchange.request, current.engine.endpoint
        url = f"{endpoint.base_url}{request.rel_url}"
        headers = {**passed(request.headers, "authorization", "host"), **endpoint.headers}
        try:
            async with self._http.request(
                request.method, url, data=exchange.body or None, headers=headers, allow_redirects=False
            ) as answer:  # fmt: skip
                await self._copy(exchange, answer, current)
        except (aiohttp.ClientConnectionResetError, ConnectionResetError) as error:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client went away") from error
            raise _EngineDied from error
        except aiohttp.ClientError as error:
            raise _EngineDied from error
        assert exchange.response is not None
        with contextlib.suppress(ConnectionResetError):  # clients of streams leave with the last event
            await exchange.response.write_eof()
        return exchange.response

    async def _copy(self, exchange: _Exchange, answer: aiohttp.ClientResponse, current: Running) -> None:
        """Pass an answer on, chunk by chunk; nothing of it before the first."""
        chunks = answer.content.iter_any()
        first = await anext(chunks, b"")
        if (answer.status >= 500 or first.startswith(_ERROR_EVENT)) and await self._settled(current):
            raise _EngineDied
        headers = {**passed(answer.headers), **exchange.headers}
        response = web.StreamResponse(status=answer.status, headers=headers)
        if "Content-Length" in answer.headers:
            response.content_length = int(answer.headers["Content-Length"])
        await response.prepare(exchange.request)
        exchange.response = response
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)

    async def _break_off(self, exchange: _Exchange) -> web.StreamResponse:
        """End an answer whose beginning was passed on: as an error within a stream, else by cutting the connection."""
        response = exchange.response
        assert response is not None
        self.counts.broken_off += 1
        self.counts.lost += 1
        if response.headers.get("Content-Type", "").startswith("text/event-stream"):
            error = error_body(502, "the engine died in the middle of this answer: send the request again")
            await response.write(b"\n\ndata: " + json.dumps(error).encode() + b"\n\n")
            await response.write_eof()
        elif exchange.request.transport is not None:
            exchange.request.transport.close()
        return response


def _call_soon(loop: asyncio.AbstractEventLoop, action: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)
