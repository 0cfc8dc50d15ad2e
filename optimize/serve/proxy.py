"""The HTTP application of the front: one address that stays while engines come and go behind it.

It answers /health and /metrics itself and forwards the paths of `FORWARDED`, which it writes itself: what a client sent
as path or query goes no further. Of a request's body the engine gets what was checked (`request_body`), of its headers
those that an engine needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web

from optimize.config.serve import Serve
from optimize.engine.gate import names_loopback
from optimize.serve.answer_limit import AnswerLimit
from optimize.serve.beam_limit import BeamLimit
from optimize.serve.exchange import Counts, Exchange
from optimize.serve.forwarder import Forwarder
from optimize.serve.intake import Connections, Intake, capacity
from optimize.serve.mirror import Mirror
from optimize.serve.request_body import parse
from optimize.serve.responses import Refused, refusal
from optimize.serve.stream_request import stream_request
from optimize.serve.supervisor import Supervisor

FORWARDED = {
    "/v1/models": "GET",
    "/v1/completions": "POST",
    "/v1/chat/completions": "POST",
    "/v1/responses": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
}
"""Path -> method of what an engine is asked for. Its other paths manage it, or belong to models of other kinds."""
_CLIENT_CLOSED_REQUEST = 499  # the client has disconnected: nobody receives it
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Proxy:
    """The application behind the front's address.

    Args:
        supervisor: Keeps the engine up.
        settings: Limits and timeouts.
        limit: Limit of beams.
        api_key: Key that clients must send; None where none is required.
        mirror: Sends copies of requests to a candidate.

    Attributes:
        connections: The front's connections.
    """

    def __init__(
        self, supervisor: Supervisor, settings: Serve, limit: BeamLimit, api_key: str | None, mirror: Mirror
    ) -> None:  # fmt: skip
        self._supervisor, self._api_key, self._mirror = supervisor, api_key, mirror
        self.limit, self.counts = limit, Counts()
        self.draining, self.in_flight, self._migrates = False, 0, settings.migrations > 0
        self.forwarder = Forwarder(supervisor, settings, self.counts)
        requests_max, connections_max = capacity(settings)
        self._intake = Intake(settings, requests_max)
        self._answers = AnswerLimit(settings.answers_max, settings.answers_together, self.counts)
        self.connections = Connections(connections_max, settings.client_timeout_s)
        self._observed: Mapping[str, float] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._answered])
        app.add_routes([web.get("/health", self.health), web.get("/metrics", self.metrics)])
        for path, method in FORWARDED.items():
            app.router.add_route(method, path, self._forwarding(path))  # unlike web.get, without HEAD
        app.cleanup_ctx.append(self._session)
        return app

    @web.middleware
    async def _answered(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        with self.connections.busy(request):
            try:
                return await handler(request)
            except Refused as refused:
                return refused.response()
            except web.HTTPException as error:  # no such path, or not by this method
                return refusal(error.status, "no such path or method here: docs/certify.md lists those there are")

    async def _session(self, _: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        self._supervisor.subscribe(lambda: _call_soon(loop, self._on_change))
        async with self.forwarder, self._mirror:
            yield

    def _on_change(self) -> None:
        metrics = self._supervisor.metrics
        if metrics is not self._observed:  # each reading counts once
            self._observed = metrics
            self.limit.observe(metrics.get("kv_cache_use", 0.0), metrics.get("requests_waiting", 0.0))
        self.forwarder.engine_changed()

    # -- answered by the front itself

    async def health(self, _: web.Request) -> web.Response:
        if self.draining:
            return web.json_response({"status": "draining"}, status=503)
        up, supervised = self._supervisor.current is not None, self._supervisor.supervised
        status = "restarting" if not up else "up" if supervised else "unsupervised"
        state = {"status": status, "standby": self._supervisor.standby_ready}
        return web.json_response(state, status=200 if up and supervised else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """The engine's metrics, and the front's own."""
        self._check_name(request)
        own = "\n".join(self._own_metrics()) + "\n"
        return web.Response(text=await self.forwarder.engine_metrics() + own)

    def _own_metrics(self) -> list[str]:
        gauges = {
            "engine_up": float(self._supervisor.current is not None and self._supervisor.supervised),
            "standby_ready": float(self._supervisor.standby_ready),
            "beam_limit": float(self.limit.limit),
            "requests_in_flight": float(self.in_flight),
        }
        lines = [f"# TYPE optimize:{name} gauge\noptimize:{name} {value:g}" for name, value in gauges.items()]
        counts = {**vars(self.counts), "restarts": sum(r.how != "failed" for r in self._supervisor.restarts.read())}
        lines += [f"# TYPE optimize:{k}_total counter\noptimize:{k}_total {v}" for k, v in counts.items()]
        return lines + self._mirror.metrics()

    # -- forwarded

    def _forwarding(self, path: str) -> _Handler:
        """The handler of one path of `FORWARDED`."""
        reads_body = FORWARDED[path] == "POST"

        async def forward(request: web.Request) -> web.StreamResponse:
            self._check(request, reads_body)
            with self._intake.place():
                if not reads_body:
                    return await self._answer(Exchange(request, "GET", path, b""), 1)
                async with self._intake.body(request) as raw:
                    return await self._generate(request, path, raw)

        return forward

    def _check(self, request: web.Request, reads_body: bool) -> None:
        """Refuse what can be refused before any of the body is read."""
        if self.draining:
            raise Refused(503, "this server is shutting down: send the request to another one")
        self._check_name(request)
        if not self._authorized(request):
            raise Refused(401, "the API key is missing or wrong: send it as a bearer token")
        self.counts.requests += 1
        if reads_body and request.content_type != "application/json":  # a web page can send others without asking
            raise Refused(415, "the body must be sent as Content-Type: application/json")

    def _check_name(self, request: web.Request) -> None:
        """Refuse a page of a foreign site, whose name its visitor's browser was told to look for on this machine."""
        if self._api_key is None and not names_loopback(_bytes(request.headers.get("Host", ""))):
            raise Refused(403, "a server without a key is reached as 127.0.0.1 or localhost only: set one")

    def _authorized(self, request: web.Request) -> bool:
        if self._api_key is None:
            return True
        authorization = _bytes(request.headers.get("Authorization", ""))
        return hmac.compare_digest(authorization, f"Bearer {self._api_key}".encode())

    async def _generate(self, request: web.Request, path: str, raw: bytes) -> web.StreamResponse:
        """Apply the limits of beams and answers to a request, and forward what remains of it."""
        body = parse(raw)
        verdict = self.limit.judge(body.width, body.prompts)
        if not verdict.width:
            self.counts.refused_beams += 1
            raise Refused(400, verdict.reason, "n")
        exchange = Exchange(request, "POST", path, body.clamped(verdict.width))
        if self._migrates and (stream := stream_request(path, body.fields)) is not None:
            exchange.stream, exchange.body = stream, stream.encoded
        if verdict.reason:
            self.counts.clamped_beams += 1
            exchange.headers["X-Beam-Limit"] = str(verdict.width)
        with (
            self._answers.place(body.samples * verdict.width, body.prompts),
            self._mirror.beside(exchange, body.fields),
        ):
            return await self._answer(exchange, verdict.beams)

    async def _answer(self, exchange: Exchange, beams: int) -> web.StreamResponse:
        async with self._in_flight(beams):
            try:
                return await self.forwarder.forward(exchange)
            except ConnectionResetError:
                self.counts.left += 1
                return exchange.response or web.Response(status=_CLIENT_CLOSED_REQUEST)

    @contextlib.asynccontextmanager
    async def _in_flight(self, beams: int) -> AsyncIterator[None]:
        limit = self.limit  # a promotion replaces it meanwhile
        self.in_flight += 1
        limit.enter(beams)
        try:
            yield
        except asyncio.CancelledError:
            self.counts.left += 1
            raise
        finally:
            self.in_flight -= 1
            limit.leave(beams)


def _bytes(header: str) -> bytes:
    """A header's value as it was sent; the server library keeps bytes that are no text as surrogates."""
    return header.encode("utf-8", "surrogateescape")


def _call_soon(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)
