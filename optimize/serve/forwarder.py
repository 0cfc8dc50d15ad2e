"""Forwards requests to whichever engine is up, and retries those whose engine died.

A request is sent again while nothing of its answer has been passed on. After that another engine goes on with the
answer where that is possible (`stream_request`); otherwise it ends in a clear error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import aiohttp
from aiohttp import web

from optimize.config.serve import Serve
from optimize.engine.base import Endpoint
from optimize.serve.engine_queries import EngineQueries, connections_to_engines
from optimize.serve.exchange import Counts, Exchange
from optimize.serve.instance import Instance
from optimize.serve.progress import Contradiction, TokenRoom
from optimize.serve.responses import error_body, headers_to_client, headers_to_engine, refusal
from optimize.serve.stream_request import COMPLETIONS
from optimize.serve.supervisor import Supervisor
from optimize.serve.transcript import Transcript

_DETECTION_S = 1.0  # how long the supervisor may take to detect what a broken connection was the first sign of
_ERROR_EVENT = b'data: {"error"'
_STREAM = "text/event-stream"
_TOKENS_MAX = 1 << 24  # of all streams that another engine could go on with: 64 MiB
OWN_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class _EngineDied(Exception):
    """The engine's answer broke off, or never began."""


class _CannotContinue(Exception):
    """Another engine could not go on with an answer that had begun."""


class Forwarder:
    """Sends requests to the supervised engine; an asynchronous context manager that holds the connections.

    Args:
        supervisor: Keeps the engine up.
        settings: Limits and timeouts.
        counts: Counters to add to.

    Attributes:
        in_flight: Number of an engine -> requests that it is answering.
    """

    def __init__(self, supervisor: Supervisor, settings: Serve, counts: Counts) -> None:
        self._supervisor, self._settings, self._counts = supervisor, settings, counts
        self._changed, self._room = asyncio.Event(), TokenRoom(_TOKENS_MAX)
        self.in_flight: Counter[int] = Counter()

    async def __aenter__(self) -> Forwarder:
        self._http = connections_to_engines()
        self._queries = EngineQueries(self._http, self._settings.probe_timeout_s)
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
        return "" if current is None else await self._queries.metrics(current.engine.endpoint)

    async def forward(self, exchange: Exchange) -> web.StreamResponse:
        """Send a request until an engine has answered it, at most `serve.retries` times again."""
        if exchange.recording is not None:
            exchange.recording.waited = self._supervisor.current is None
        try:
            return await self._answered(exchange)
        finally:
            if exchange.transcript is not None:
                exchange.transcript.close()

    async def _answered(self, exchange: Exchange) -> web.StreamResponse:
        for attempt in range(self._settings.retries + 1):
            current = await self._engine()
            if current is None:
                reason = "no engine came back in time (serve.wait_s): try again later"
                return await self._lost(exchange, refusal(503, reason, retry_after_s=5))
            self._counts.retried += attempt > 0
            if exchange.recording is not None:
                exchange.recording.attempts = attempt + 1
            try:
                with self._counted(current):
                    return await self._attempt(exchange, current)
            except _EngineDied:
                if exchange.response is not None and not self._may_migrate(exchange):
                    break
                await self._failure_detected(current)
            except _CannotContinue:
                break
        reason = "the engine died while it answered: send the request again"
        return await self._lost(exchange, refusal(502, reason, retry_after_s=1))

    def _may_migrate(self, exchange: Exchange) -> bool:
        """Whether another engine may go on with an answer that has begun."""
        exchange.migrations += 1
        within = exchange.migrations <= self._settings.migrations
        return within and exchange.transcript is not None and exchange.transcript.resumable

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

    @contextlib.contextmanager
    def _counted(self, engine: Instance) -> Iterator[None]:
        self.in_flight[engine.generation] += 1
        try:
            yield
        finally:
            self.in_flight[engine.generation] -= 1

    async def _attempt(self, exchange: Exchange, current: Instance) -> web.StreamResponse:
        """One attempt on one engine.

        Raises:
            _EngineDied: the answer did not reach its end.
        """
        request, endpoint = exchange.request, current.engine.endpoint
        headers = {**headers_to_engine(request.headers), **OWN_HEADERS, **endpoint.headers}
        try:
            path, body = await self._question(exchange, endpoint)
            async with self._http.request(
                exchange.method, f"{endpoint.base_url}{path}", data=body or None, headers=headers, allow_redirects=False
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

    async def _question(self, exchange: Exchange, endpoint: Endpoint) -> tuple[str, bytes]:
        """(Path, body) that an engine is asked for: the client's, or the rest of an answer that has begun."""
        transcript = exchange.transcript
        if exchange.response is None:
            if transcript is not None:
                transcript.close()
            exchange.transcript = None if exchange.stream is None else Transcript(exchange.stream, self._room)
            return exchange.path, exchange.body
        assert transcript is not None
        if transcript.doubtful:
            transcript.settle(await self._queries.incomplete_tokens(endpoint, transcript.doubtful))
        body = transcript.resume(await self._queries.length_max(endpoint)) if transcript.resumable else None
        if body is None:
            raise _CannotContinue
        self._counts.migrated += 1
        return COMPLETIONS, body

    async def _copy(self, exchange: Exchange, answer: aiohttp.ClientResponse, current: Instance) -> None:
        """Pass an answer on piece by piece; the headers wait for the first piece."""
        begun, transcript = exchange.response is not None, exchange.transcript
        if transcript is None or not _is_stream(answer):
            pieces: AsyncIterator[bytes] = answer.content.iter_any()
            transcript = None
        else:
            pieces = self._translated(transcript, answer, current)
        if exchange.recording is not None:
            pieces = exchange.recording.passing(answer.status, pieces, begun)
        first = await anext(pieces, b"")
        failed = answer.status >= 500 or (transcript is None and first.startswith(_ERROR_EVENT))
        if failed and await self._failure_detected(current):
            raise _EngineDied
        if transcript is None and begun:
            raise _CannotContinue
        response = exchange.response or await self._begin(exchange, answer)
        async with self._patience(exchange):
            await response.write(first)
        async for piece in pieces:
            async with self._patience(exchange):
                await response.write(piece)

    async def _translated(
        self, transcript: Transcript, answer: aiohttp.ClientResponse, current: Instance
    ) -> AsyncIterator[bytes]:
        """A stream's pieces as the client is to have them; of one that lacks only its end, with an end."""
        try:
            async for chunk in answer.content.iter_any():
                if piece := transcript.take(chunk):
                    yield piece
                if transcript.error and await self._failure_detected(current):
                    raise _EngineDied
                if error := transcript.error_passed():
                    yield error
            if not transcript.ended and await self._failure_detected(current):
                raise _EngineDied
            yield transcript.rest
        except Contradiction as contradiction:
            raise _CannotContinue from contradiction
        except (aiohttp.ClientError, _EngineDied):
            if (ending := transcript.ending()) is None:
                raise
            yield ending

    async def _begin(self, exchange: Exchange, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the head of an answer on."""
        headers = {**headers_to_client(answer.headers), **exchange.headers}
        response = web.StreamResponse(status=answer.status, headers=headers)
        if "Content-Length" in answer.headers and not _is_stream(answer):  # a stream's pieces may become shorter
            response.content_length = int(answer.headers["Content-Length"])
        await response.prepare(exchange.request)
        exchange.response = response
        return response

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

    async def _lost(self, exchange: Exchange, refused: web.Response) -> web.StreamResponse:
        """Refuse a request, or break its answer off where it has begun."""
        self._counts.lost += 1
        return refused if exchange.response is None else await self._break_off(exchange.request, exchange.response)

    async def _break_off(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """End an answer that was partly passed on: by an error event in a stream, else by closing the connection."""
        self._counts.broken_off += 1
        if response.headers.get("Content-Type", "").startswith(_STREAM):
            error = error_body(502, "the engine died in the middle of this answer: send the request again")
            await response.write(b"\n\ndata: " + json.dumps(error).encode() + b"\n\n")
            await response.write_eof()
        elif request.transport is not None:
            request.transport.close()
        return response


def _is_stream(answer: aiohttp.ClientResponse) -> bool:
    return answer.status == 200 and answer.headers.get("Content-Type", "").startswith(_STREAM)
