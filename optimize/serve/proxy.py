"""The HTTP application of the front: one address that stays while engines come and go behind it.

It answers /health and /metrics itself, checks the API key and the limit of beams, and forwards /v1. The engine's
development endpoints are never forwarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from optimize.config.serve import Serve
from optimize.serve.beam_limit import BeamLimit, Verdict
from optimize.serve.forwarder import Counts, Exchange, Forwarder
from optimize.serve.responses import refusal
from optimize.serve.supervisor import Supervisor

_GENERATES = ("/v1/completions", "/v1/chat/completions")
_CLIENT_CLOSED_REQUEST = 499  # the client has disconnected: nobody receives it
_MAX_BODY_BYTES = 64 << 20


class Proxy:
    """The application behind the front's address.

    Args:
        supervisor: Keeps the engine up.
        settings: Limits and timeouts.
        limit: Limit of beams.
        api_key: Key that clients must send; None where none is required.
    """

    def __init__(self, supervisor: Supervisor, settings: Serve, limit: BeamLimit, api_key: str | None) -> None:
        self._supervisor, self._api_key = supervisor, api_key
        self.limit, self.counts = limit, Counts()
        self.draining, self.in_flight = False, 0
        self._forwarder = Forwarder(supervisor, settings, self.counts)
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
        async with self._forwarder:
            yield

    def _on_change(self) -> None:
        metrics = self._supervisor.metrics
        if metrics is not self._observed:  # each reading counts once
            self._observed = metrics
            self.limit.observe(metrics.get("kv_cache_use", 0.0), metrics.get("requests_waiting", 0.0))
        self._forwarder.engine_changed()

    # -- answered by the front itself

    async def health(self, _: web.Request) -> web.Response:
        if self.draining:
            return web.json_response({"status": "draining"}, status=503)
        up, supervised = self._supervisor.current is not None, self._supervisor.supervised
        status = "restarting" if not up else "up" if supervised else "unsupervised"
        state = {"status": status, "standby": self._supervisor.standby_ready}
        return web.json_response(state, status=200 if up and supervised else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        """The engine's metrics, and the front's own."""
        own = "\n".join(self._own_metrics()) + "\n"
        return web.Response(text=await self._forwarder.engine_metrics() + own)

    def _own_metrics(self) -> list[str]:
        gauges = {
            "engine_up": float(self._supervisor.current is not None),
            "standby_ready": float(self._supervisor.standby_ready),
            "beam_limit": float(self.limit.limit),
            "requests_in_flight": float(self.in_flight),
        }
        lines = [f"# TYPE optimize:{name} gauge\noptimize:{name} {value:g}" for name, value in gauges.items()]
        counts = {**vars(self.counts), "restarts": sum(r.how != "failed" for r in self._supervisor.restarts.read())}
        return lines + [f"# TYPE optimize:{k}_total counter\noptimize:{k}_total {v}" for k, v in counts.items()]

    # -- forwarded

    async def api(self, request: web.Request) -> web.StreamResponse:
        if self.draining:
            return refusal(503, "this server is shutting down: send the request to another one")
        if not self._authorized(request):
            return refusal(401, "the API key is missing or wrong: send it as a bearer token")
        self.counts.requests += 1
        exchange = Exchange(request, await request.read())
        verdict = self._judge(exchange)
        if verdict.beams == 0:
            self.counts.refused_beams += 1
            return refusal(400, verdict.reason, param="n")
        if verdict.reason:
            self.counts.clamped_beams += 1
        async with self._in_flight(verdict.beams):
            try:
                return await self._forwarder.forward(exchange)
            except ConnectionResetError:
                self.counts.left += 1
                return exchange.response or web.Response(status=_CLIENT_CLOSED_REQUEST)

    def _authorized(self, request: web.Request) -> bool:
        if self._api_key is None:
            return True
        authorization = request.headers.get("Authorization", "")
        return hmac.compare_digest(authorization.encode(), f"Bearer {self._api_key}".encode())

    def _judge(self, exchange: Exchange) -> Verdict:
        """Apply the limit of beams to a request; the body of a clamped one carries fewer from here on."""
        if exchange.request.path not in _GENERATES or b"use_beam_search" not in exchange.body:
            return Verdict(1, 1)
        try:
            body: Any = json.loads(exchange.body)
        except ValueError:
            return Verdict(1, 1)  # the engine's error message says what is wrong with it
        if not isinstance(body, dict):
            return Verdict(1, 1)
        verdict = self.limit.judge(body)
        if 0 < verdict.beams < verdict.requested:
            exchange.body = json.dumps({**body, "n": verdict.beams}).encode()
            exchange.headers["X-Beam-Limit"] = str(verdict.beams)
        return verdict

    @contextlib.asynccontextmanager
    async def _in_flight(self, beams: int) -> AsyncIterator[None]:
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


def _call_soon(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)
