"""Sends a copy of live requests to a candidate, and pairs its answers with those that the clients got.

A client never waits for the copy: it is sent in a task of its own, its answer goes nowhere, and where the candidate has
as many requests as it may have, no copy is made. Copies go to the two completions APIs only, after all checks of the
front, with the candidate's own key.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from optimize.canary.pair import Pair
from optimize.canary.windows import Place, Windows
from optimize.config.serve import Serve
from optimize.engine.base import Endpoint
from optimize.serve.engine_queries import connections_to_engines
from optimize.serve.exchange import Exchange
from optimize.serve.forwarder import OWN_HEADERS
from optimize.serve.pairing import pair_of
from optimize.serve.recording import Recording
from optimize.serve.responses import headers_to_engine

MIRRORED = ("/v1/completions", "/v1/chat/completions")
_PATIENCE, _PATIENCE_LEAST_S = 10.0, 10.0
"""A candidate that takes ten times as long as the serving engine, and ten seconds, has failed to answer."""
_MIB = 1 << 20


@dataclass
class MirrorCounts:
    """Counters of the mirror; /metrics reports them under these names."""

    canary_mirrored: int = 0
    canary_dropped: int = 0
    """Requests of a window that the candidate did not get, because it had too many."""
    canary_pairs: int = 0


@dataclass(eq=False)
class _Copy:
    """A request that both engines have."""

    place: Place
    exchange: Exchange
    fields: Mapping[str, Any]
    primary: Recording
    candidate: Recording
    task: asyncio.Task[None] = field(init=False)
    served: bool = False


class Mirror:
    """Belongs to the event loop of the front, but for `open`, `close`, `take` and `metrics`.

    An asynchronous context manager that holds the connections to the candidate.

    Args:
        settings: Share of the time, and bounds.
        clock: Seconds.

    Attributes:
        gauges: Name -> figure, which /metrics reports.
    """

    def __init__(self, settings: Serve, clock: Callable[[], float] = time.perf_counter) -> None:
        self._settings, self._clock = settings, clock
        self._windows = Windows(settings.canary.share, settings.canary.window_s, clock)
        self._endpoint: Endpoint | None = None
        self._copies: set[_Copy] = set()
        self._pairs: deque[Pair] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.counts, self.gauges = MirrorCounts(), dict[str, float]()

    async def __aenter__(self) -> Mirror:
        self._loop, self._http = asyncio.get_running_loop(), connections_to_engines()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._abandon()
        await self._http.close()

    # -- from any thread

    def open(self, endpoint: Endpoint) -> None:
        """Mirror to this candidate from now on."""
        self._soon(lambda: self._begin(endpoint))

    def close(self) -> None:
        """Mirror no more, and cancel what the candidate has."""
        self._soon(self._abandon)

    def take(self) -> list[Pair]:
        """The pairs that have become complete since the last call."""
        return [self._pairs.popleft() for _ in range(len(self._pairs))]

    @property
    def under_way(self) -> int:
        """Requests that the candidate, or the serving engine beside it, has not answered yet."""
        return len(self._copies)

    def metrics(self) -> list[str]:
        """Lines for /metrics; none where no candidate is configured."""
        if not self._settings.canary.enabled:
            return []
        lines = [f"# TYPE optimize:{k} gauge\noptimize:{k} {v:g}" for k, v in self.gauges.items()]
        return lines + [
            f"# TYPE optimize:{k}_total counter\noptimize:{k}_total {v}" for k, v in vars(self.counts).items()
        ]

    def _soon(self, action: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    # -- within the loop

    def _begin(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._windows.begin()

    def _abandon(self) -> None:
        self._endpoint = None
        for copy in self._copies:
            copy.task.cancel()

    @contextlib.contextmanager
    def beside(self, exchange: Exchange, fields: Mapping[str, Any]) -> Iterator[None]:
        """Have the candidate answer the request, too, that is answered within the block, if it is its turn."""
        endpoint, place = self._endpoint, self._enter(exchange)
        if not place.mirrored or endpoint is None:
            try:
                yield
            finally:
                self._windows.leave(place)
            return
        copy = self._send(_Copy(place, exchange, fields, Recording(self._clock), Recording(self._clock)), endpoint)
        try:
            yield
        finally:
            self._answered(copy)

    def _enter(self, exchange: Exchange) -> Place:
        """The request's place; a copy that there is no room for is counted, and not made."""
        place = self._windows.enter(self._endpoint is not None and exchange.path in MIRRORED)
        if place.mirrored and not self._has_room(len(exchange.body)):
            self.counts.canary_dropped += 1
            self._windows.leave(place)
            return self._windows.enter(False)
        return place

    def _has_room(self, size: int) -> bool:
        held = sum(len(copy.exchange.body) for copy in self._copies)
        enough = held + size <= self._settings.bodies_max_mib * _MIB
        return enough and len(self._copies) < self._settings.canary.in_flight_max

    def _send(self, copy: _Copy, endpoint: Endpoint) -> _Copy:
        self.counts.canary_mirrored += 1
        copy.exchange.recording = copy.primary
        copy.task = asyncio.get_running_loop().create_task(self._ask(copy, endpoint))
        self._copies.add(copy)
        copy.task.add_done_callback(lambda _: self._settle(copy))
        return copy

    async def _ask(self, copy: _Copy, endpoint: Endpoint) -> None:
        """Have the candidate answer; whatever goes wrong leaves its recording incomplete."""
        headers = {**headers_to_engine(copy.exchange.request.headers), **OWN_HEADERS, **endpoint.headers}
        url, copy.candidate.began_s = f"{endpoint.base_url}{copy.exchange.path}", self._clock()
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with self._http.post(url, data=copy.exchange.body, headers=headers, allow_redirects=False) as answer:
                async for _ in copy.candidate.passing(answer.status, answer.content.iter_any()):
                    pass

    def _answered(self, copy: _Copy) -> None:
        """The serving engine has answered, or the client has left."""
        copy.served = True
        if copy.primary.whole_s is None:
            copy.task.cancel()
        elif not copy.task.done():
            limit_s = max(_PATIENCE_LEAST_S, _PATIENCE * copy.primary.whole_s)
            left_s = copy.candidate.began_s + limit_s - self._clock()
            asyncio.get_running_loop().call_later(max(0.0, left_s), copy.task.cancel)
        self._settle(copy)

    def _settle(self, copy: _Copy) -> None:
        """Pair the answers once both are there, or never will be."""
        if copy not in self._copies or not (copy.served and copy.task.done()):
            return
        self._copies.discard(copy)
        self._windows.leave(copy.place)
        pair = None
        if copy.place.counted:
            pair = pair_of(copy.fields, copy.primary, copy.candidate, self._clock())
        if pair is not None and self._endpoint is not None:
            self.counts.canary_pairs += 1
            self._pairs.append(pair)
