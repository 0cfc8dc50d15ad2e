"""What the front takes in from clients that it cannot trust to be quick: bodies, requests and connections.

Every wait for a client ends, and everything that is kept for one is bounded. The server library bounds the sizes of
heads of requests (`HEADS`); the rest is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aiohttp import web

from optimize.config.serve import Serve
from optimize.serve.responses import Refused

HEADS: dict[str, Any] = {
    "max_line_size": 4096, "max_field_size": 4096, "max_headers": 64, "read_bufsize": 1 << 16, "auto_decompress": False
}  # fmt: skip
"""Bounds on the head of a request, in bytes and in number of headers, and on what is read ahead of a body. A compressed
body stays so, and is no JSON: vLLM takes none either, and a small one could grow to any size.
"""
_SPARE_CONNECTIONS = 1024
_SPARE_FILES = 256
_MIB = 1 << 20


class Intake:
    """Receives bodies within `serve.client_timeout_s`, `serve.body_max_mib` and `serve.bodies_max_mib`.

    Args:
        settings: Limits.
        requests_max: Most requests at a time.
    """

    def __init__(self, settings: Serve, requests_max: int) -> None:
        self._settings, self._requests_max = settings, requests_max
        self._requests, self._held_bytes = 0, 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests under way.

        Raises:
            Refused: none is free.
        """
        if self._requests >= self._requests_max:
            raise Refused(503, f"{self._requests} requests are under way, as many as are taken: try later", None, 1)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextlib.asynccontextmanager
    async def body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body of a request; its bytes count as held until the end of the block.

        Raises:
            Refused: it is too large, too slow or broken, or memory for bodies is used up.
        """
        body = bytearray()
        try:
            yield await self._received(request, body)
        finally:
            self._held_bytes -= len(body)

    async def _received(self, request: web.Request, body: bytearray) -> bytes:
        limit_s = self._settings.client_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._held_bytes += len(chunk)
                    self._check(len(body))
        except TimeoutError as error:
            raise Refused(408, f"the body was not complete within {limit_s:g} s (serve.client_timeout_s)") from error
        except web.RequestPayloadError as error:
            raise Refused(400, "the body breaks off, or is not cut into chunks as its headers say") from error
        return bytes(body)

    def _check(self, size: int) -> None:
        if size > self._settings.body_max_mib * _MIB:
            raise Refused(413, f"the body exceeds {self._settings.body_max_mib} MiB (serve.body_max_mib)")
        if self._held_bytes > self._settings.bodies_max_mib * _MIB:
            raise Refused(503, "the bodies of other requests use up the memory for them: try later", None, 1)


class Connections:
    """The front's connections: none stays without a request for long, and there is always room for one more.

    The server library's own deadlines miss connections that its parser gave up, and answers that nobody takes.

    Args:
        most: Number above which the one that has gone longest without a request is closed for a new one.
        idle_max_s: Time without a request after which a connection is closed.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, most: int, idle_max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._idle_max_s, self._clock = most, idle_max_s, clock
        self._idle_since: dict[web.RequestHandler, float] = {}  # the longest comes first

    @contextlib.contextmanager
    def busy(self, request: web.Request) -> Iterator[None]:
        """Spare the connection of a request while it is answered."""
        self._idle_since.pop(request.protocol, None)
        try:
            yield
        finally:
            self._idle_since[request.protocol] = self._clock()

    def accepting(self, server: web.Server) -> Callable[[], web.RequestHandler]:
        """What makes the protocol of each new connection, closing another one first where there are too many."""

        def accept() -> web.RequestHandler:
            if len(server.connections) >= self._most:
                self._close(next((c for c in self._idle_since if c.transport is not None), None))
            connection = server()
            self._idle_since[connection] = self._clock()
            return connection

        return accept

    def sweep(self) -> None:
        """Close connections that have been without a request for too long."""
        for connection, since in list(self._idle_since.items()):
            if self._clock() - since < self._idle_max_s:
                return
            self._close(connection)

    def _close(self, connection: web.RequestHandler | None) -> None:
        if connection is not None:
            del self._idle_since[connection]
            connection.force_close()


def capacity(settings: Serve) -> tuple[int, int]:
    """(requests, connections) that can be taken at a time, within the number of files that this process may open.

    Each connection may need a second one to the engine. The process's soft limit is raised as far as that takes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = _SPARE_FILES + (settings.canary.in_flight_max if settings.canary.enabled else 0)
    demand = 2 * (settings.requests_max + _SPARE_CONNECTIONS) + spare
    files = demand if hard == resource.RLIM_INFINITY else min(demand, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    connections = max(4, (files - spare) // 2)
    return min(settings.requests_max, connections * 3 // 4), connections
