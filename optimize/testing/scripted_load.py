"""A load in virtual time: clients that follow a script, so that a window takes no real seconds."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from objectives import RequestRecord
from optimize.engine.base import Endpoint
from optimize.load.arrivals import Arrivals, ClosedLoop
from optimize.load.client_pool import LoadRequest
from optimize.workload.conversation import Dialogue, Exchange, Single
from optimize.workload.example import Prompt

_CALL_S = 1e-6
"""What a call costs at least, as on a real clock: a wait of less than the clock resolves would never end."""


class VirtualClock:
    """A clock that stands still but for what is slept."""

    def __init__(self) -> None:
        self._now = 1000.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += max(seconds, _CALL_S)


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """A request as it is sent.

    Attributes:
        at: The clock when it is sent.
        number: Its place in its load, from 0.
        row: Row of the workload that is sent.
        prompt: Its prompt.
        max_tokens: Bound on the answer.
        turn: Turn of its conversation, from 1.
    """

    at: float
    number: int
    row: int
    prompt: Prompt
    max_tokens: int
    turn: int = 1


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """The end of a request.

    Attributes:
        latency_s: Seconds from when it is sent; infinite where it is never answered.
        error: As in `RequestRecord`.
        text: The answer, or what the server said of the error.
        tokens: Tokens of the answer.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: Those of them that the server found in its cache; None where it does not say.
    """

    latency_s: float = 0.05
    error: str | None = None
    text: str = "a b"
    tokens: int = 2
    prompt_tokens: int = 3
    cached_tokens: int | None = None


Server = Callable[[ScriptedRequest], ScriptedAnswer]


class SingleServer:
    """A server that works on one request at a time, in the order in which they come: a queue grows before it.

    Args:
        service_s: Seconds of service of the nth request.
    """

    def __init__(self, service_s: Callable[[int], float]) -> None:
        self._service_s, self._free_at = service_s, 0.0

    def __call__(self, request: ScriptedRequest) -> ScriptedAnswer:
        self._free_at = max(self._free_at, request.at) + self._service_s(request.number)
        return ScriptedAnswer(self._free_at - request.at)


class ScriptedClients:
    """Clients whose requests a script answers.

    Args:
        clock: The clock, which the load generator shares.
        server: Called with every request in the order in which they are sent.
        send_lag_s: Seconds from when a request is due until it is sent.
        cpu_share: Share of a core that each client process uses.

    Attributes:
        size: Client processes of the next load.
    """

    def __init__(
        self, clock: VirtualClock, server: Server, send_lag_s: float = 0.0, cpu_share: float = 0.1
    ) -> None:  # fmt: skip
        self._clock, self._server, self._send_lag_s, self._cpu_share = clock, server, send_lag_s, cpu_share
        self.size = 1
        self.pids: list[int] = []

    def begin(self) -> None:
        """Nothing to start."""

    def grow(self, limit: int) -> bool:
        before, self.size = self.size, max(self.size, min(2 * self.size, limit))
        return self.size > before

    @contextmanager
    def loading(
        self, endpoint: Endpoint, request: LoadRequest, processes: int | None = None
    ) -> Iterator[ScriptedLoad]:  # fmt: skip
        run = ScriptedLoad(self._clock, self._server, request, self._send_lag_s)
        try:
            yield run
        finally:
            run.stop()
            points = [(0.0, 0.0), (run.clock(), self._cpu_share * run.clock())]
            run.cpu = [points for _ in range(processes or self.size)]


@dataclass(order=True)
class _Event:
    """A request that falls due (`record` is None), or ends; of an exchange that begins with it where that is None."""

    at_s: float
    order: int
    generation: int = field(compare=False)
    exchange: Exchange | None = field(compare=False, default=None)
    record: RequestRecord | None = field(compare=False, default=None)


class ScriptedLoad:
    """A load under way; see `optimize.load.clients.OngoingLoad`."""

    def __init__(self, clock: VirtualClock, server: Server, request: LoadRequest, send_lag_s: float) -> None:
        self._clock, self._server, self._request, self._send_lag_s = clock, server, request, send_lag_s
        self.began = clock.now()
        self.records: list[RequestRecord] = []
        self.unanswered: list[RequestRecord] = []
        self.cpu: list[list[tuple[float, float]]] = []
        self._events: list[_Event] = []
        self._order, self._sent, self._begun, self._generation = itertools.count(), itertools.count(), 0, 0
        self._think_s: float | None = None
        self._due_times: Iterator[float] = iter(())
        workload, later = request.workload, frozenset(request.later)
        self._talks = workload.conversations
        rows = range(len(workload.prompts)) if self._talks is None else [rows[0] for rows in self._talks.rows]
        self._rows = sorted(range(len(rows)), key=lambda number: rows[number] in later)

    def clock(self) -> float:
        return self._clock.now() - self.began

    def follow(self, arrivals: Arrivals, start_s: float | None = None) -> None:
        self.update()
        start_s = self.clock() if start_s is None else start_s
        self._generation += 1
        self._sent, self._begun = itertools.count(), 0
        if isinstance(arrivals, ClosedLoop):
            self._think_s = arrivals.think_s
            for user in range(arrivals.users):
                self._push(start_s + arrivals.first_due_s(user))
        else:
            self._think_s = None
            self._due_times = (start_s + due_s for due_s in arrivals.due_times_s(self._request.seed))
            self._push_next()

    def update(self) -> None:
        """Play the script up to now."""
        while self._events and self._events[0].at_s <= self.clock():
            event = heapq.heappop(self._events)
            if event.record is not None:
                self._end(event, event.record)
            elif event.generation == self._generation or event.exchange is not None:
                self._send(event)

    def oldest_due_s(self) -> float:
        waiting = [e.record.due_s for e in self._events if e.record is not None]
        return min(waiting, default=self.clock())

    def stop(self) -> None:
        """End the load: what has no answer yet is given up."""
        self.update()
        for event in self._events:
            if (r := event.record) is not None:
                self.unanswered.append(replace(
                    r, first_token_s=None, done_s=self.clock(), prompt_tokens=0, output_tokens=0, text="",
                    error="timeout",
                ))  # fmt: skip

    def _push(self, at_s: float, exchange: Exchange | None = None, record: RequestRecord | None = None) -> None:
        heapq.heappush(self._events, _Event(at_s, next(self._order), self._generation, exchange, record))

    def _push_next(self) -> None:
        due_s = next(self._due_times, None)
        if due_s is not None:
            self._push(due_s)

    def _next(self) -> Exchange:
        number, workload = self._rows[self._begun % len(self._rows)], self._request.workload
        self._begun += 1
        if self._talks is None:
            return Single(number, workload.prompts[number])
        return Dialogue(self._talks, number, workload.prompts[self._talks.rows[number][0]], self._bound)

    def _bound(self, row: int) -> int:
        return min(self._request.max_tokens, self._request.workload.bound(row))

    def _send(self, event: _Event) -> None:
        number, sent_s, request = next(self._sent), event.at_s + self._send_lag_s, self._request
        exchange = event.exchange or self._next()
        row, turn = exchange.row, exchange.turn
        answer = self._server(
            ScriptedRequest(self.began + sent_s, number, row, exchange.prompt, self._bound(row), turn)
        )
        if answer.latency_s > request.timeout_s:
            answer = ScriptedAnswer(request.timeout_s, "timeout", "", 0)
        assert answer.latency_s > 0, "an answer in no time would leave a closed loop in an endless loop"
        done_s = sent_s + answer.latency_s
        first_token_s = None if answer.error else sent_s + answer.latency_s / max(1, answer.tokens)
        tokens = 0 if answer.error else answer.tokens
        self._push(done_s, exchange, RequestRecord(
            row, event.at_s, sent_s, first_token_s, done_s, answer.prompt_tokens, tokens, answer.text, answer.error,
            turn=turn, cached_tokens=answer.cached_tokens,
        ))  # fmt: skip
        if self._think_s is None and event.exchange is None:
            self._push_next()

    def _end(self, event: _Event, record: RequestRecord) -> None:
        exchange = event.exchange
        assert exchange is not None
        record = exchange.take(record)
        self.records.append(record)
        if not exchange.ended:
            self._push(record.done_s + exchange.pause_s(self._think_s or 0.0), exchange)
        elif self._think_s is not None and event.generation == self._generation:
            self._push(record.done_s + self._think_s)
