"""Simulated replicas of a batching engine, in virtual time: exact from event to event, no clock and no sleep.

A step of the batch takes `STEP_S + TOKEN_S` times its size and gives every running request one token (the shape of
decoding on a GPU: reading the weights once, and work per sequence). Requests beyond `SEQUENCES` wait their turn.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

STEP_S, TOKEN_S, SEQUENCES = 0.012, 0.00035, 64


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        due_s: Second of its arrival.
        tokens: Length of its answer.
        begun_s: Second at which it entered the batch.
        done_s: Second of its last token; infinite if it never came.
    """

    due_s: float
    tokens: float
    begun_s: float = float("inf")
    done_s: float = float("inf")

    @property
    def ttft_s(self) -> float:
        """Until its first step; the step itself is a few hundredths of a second."""
        return self.begun_s - self.due_s

    @property
    def tpot_s(self) -> float:
        return (self.done_s - self.begun_s) / self.tokens


@dataclass(slots=True)
class Reading:
    """What the metrics of one replica say at a time; counters count from the replica's start.

    Attributes:
        at_s: The time.
        ended: Requests that have ended.
        running: Requests in the batch.
        waiting: Requests that wait for a place in it.
        busy_s: Seconds in which a step was computed.
        tokens: Tokens that were generated.
    """

    at_s: float
    ended: int
    running: int
    waiting: int
    busy_s: float
    tokens: float


@dataclass(slots=True)
class Replica:
    """One engine.

    Attributes:
        ready_s: Second from which it serves.
        clock_s: Second up to which it has been simulated.
    """

    ready_s: float
    clock_s: float = 0.0
    _tokens_each: float = 0.0  # of a request that has been running since the beginning
    _running: list[tuple[float, int, Request]] = field(default_factory=list)
    _waiting: deque[Request] = field(default_factory=deque)
    _begun: int = 0
    _ended: int = 0
    _busy_s: float = 0.0
    _tokens: float = 0.0

    def send(self, request: Request) -> None:
        """A request arrives, not earlier than any before."""
        self.advance(request.due_s)
        self._waiting.append(request)
        self._admit(request.due_s)

    def advance(self, to_s: float) -> None:
        """Simulate up to a time."""
        while self._running:
            size = len(self._running)
            step_s = STEP_S + TOKEN_S * size
            done_s = self.clock_s + max(0.0, self._running[0][0] - self._tokens_each) * step_s
            if done_s > to_s:
                self._compute(to_s - self.clock_s, step_s, size)
                break
            self._compute(done_s - self.clock_s, step_s, size)
            self.clock_s = done_s
            heapq.heappop(self._running)[2].done_s = done_s
            self._ended += 1
            self._admit(done_s)
        self.clock_s = max(self.clock_s, to_s)

    def read(self, at_s: float) -> Reading:
        """Its metrics at a time, not earlier than any before."""
        self.advance(at_s)
        return Reading(at_s, self._ended, len(self._running), len(self._waiting), self._busy_s, self._tokens)

    def _compute(self, seconds: float, step_s: float, size: int) -> None:
        self._tokens_each += seconds / step_s
        self._tokens += size * seconds / step_s
        self._busy_s += seconds

    def _admit(self, at_s: float) -> None:
        while self._waiting and len(self._running) < SEQUENCES:
            request = self._waiting.popleft()
            request.begun_s = at_s
            self._begun += 1
            heapq.heappush(self._running, (self._tokens_each + request.tokens, self._begun, request))
