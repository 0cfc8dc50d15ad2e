"""Engines of known capacity, simulated in virtual time: a single server, many, a batch, a cliff, a drifting one.

Nothing here is a figure of an engine; the simulations show whether a search for the capacity finds it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from optimize.capacity import Enough, ProbeRun, Requests
from optimize.testing.queueing import Floats, many_wait, queue_capacity, single_wait

Times = tuple[Floats, Floats, Floats, Floats]
"""(due_s, ttft_s, tpot_s, latency_s) of requests in order of arrival; infinite where it is not known yet."""
_LOOK, _FIRST_LOOK_S = 1.25, 1.0
_DECODE_S = 0.02
_DUE, _TTFT, _LATENCY, _TOKENS = range(4)
_DRAWN = 256


class Simulation(Protocol):
    """The requests of a level from second 0 on, on an empty engine."""

    def until(self, end_s: float, drained: bool = False) -> Times:
        """Of the requests that are due before `end_s`: as far as that is known then, or when the last is answered."""
        ...


@dataclass(frozen=True, slots=True)
class BatchShape:
    """An engine with continuous batching.

    Attributes:
        slots: Requests that run at once; others wait.
        step_s: What a step takes whatever runs.
        step_per_request_s: What each running request adds to a step.
        output_tokens: Fewest and most tokens of an answer, all equally likely.
    """

    slots: int = 32
    step_s: float = 0.01
    step_per_request_s: float = 0.001
    output_tokens: tuple[int, int] = (20, 60)


@dataclass(slots=True)
class SimulatedProber:
    """Applies levels to a simulated engine, one after the other, as a live prober does.

    Attributes:
        simulation: Begins a level, at so many seconds of load of all levels before.
        load_s: Seconds of load so far.
    """

    simulation: Callable[[float, float], Simulation]
    load_s: float = 0.0

    def __call__(self, level: float, enough: Enough, most_s: float) -> ProbeRun:
        simulation = self.simulation(level, self.load_s)
        now_s = min(_FIRST_LOOK_S, most_s)
        while now_s < most_s and not enough(_as_of(simulation.until(now_s), now_s), now_s):
            now_s = min(max(now_s * _LOOK, now_s + _FIRST_LOOK_S), most_s)
        self.load_s += now_s
        return ProbeRun(_as_of(simulation.until(now_s, drained=True), math.inf), now_s)


def _as_of(times: Times, now_s: float) -> Requests:
    due_s, ttft_s, tpot_s, latency_s = times
    waiting = due_s + latency_s > now_s
    nan = np.where(waiting, np.nan, 0.0)
    return Requests(due_s, ttft_s + nan, tpot_s + nan, latency_s + nan, np.zeros(len(due_s), dtype=bool), waiting)


@dataclass(slots=True)
class _Queue:
    """Poisson arrivals at servers who take the longest waiting one next; all is drawn for a growing stretch.

    Attributes: rate_per_s: Arrivals. servers: Number of them. service_s: Mean exponential service time.
    rng: Of the level. slowdown: Factor of the service times of a stretch's requests, by when they are due.
    """

    rate_per_s: float
    servers: int
    service_s: float
    rng: np.random.Generator
    slowdown: Callable[[Floats], Floats] = lambda due_s: np.ones(len(due_s))
    _due_s: Floats = field(default_factory=lambda: np.zeros(0))
    _wait_s: Floats = field(default_factory=lambda: np.zeros(0))
    _serve_s: Floats = field(default_factory=lambda: np.zeros(0))
    _free_s: list[float] = field(default_factory=list)

    def until(self, end_s: float, drained: bool = False) -> Times:
        while len(self._due_s) == 0 or self._due_s[-1] < end_s:
            self._extend(max(64, len(self._due_s)))
        n = int(np.searchsorted(self._due_s, end_s))
        wait_s, serve_s = self._wait_s[:n], self._serve_s[:n]
        return self._due_s[:n], wait_s, np.full(n, _DECODE_S), wait_s + serve_s

    def _extend(self, n: int) -> None:
        last_s = self._due_s[-1] if len(self._due_s) else 0.0
        due_s = last_s + np.cumsum(self.rng.exponential(1 / self.rate_per_s, n))
        serve_s = self.rng.exponential(self.service_s, n) * self.slowdown(due_s)
        self._free_s = self._free_s or [0.0] * self.servers
        wait_s = (
            single_wait(due_s, serve_s, self._free_s) if self.servers == 1 else many_wait(due_s, serve_s, self._free_s)
        )
        self._due_s = np.concatenate([self._due_s, due_s])
        self._wait_s = np.concatenate([self._wait_s, wait_s])
        self._serve_s = np.concatenate([self._serve_s, serve_s])


class _Batch:
    """An engine that decodes all its requests a token a step, where a step takes the longer the more there are.

    Between two events all running requests advance at the same pace, so that a request ends when the tokens decoded
    since the engine began reach the count at its start plus its own.
    """

    def __init__(self, level: float, users: bool, shape: BatchShape, rng: np.random.Generator) -> None:
        self._users, self._shape = users, shape
        self._gaps = _draws(lambda: rng.exponential(1 / level, _DRAWN))
        self._lengths = _draws(lambda: rng.integers(*shape.output_tokens, _DRAWN, endpoint=True))
        self._now_s = self._tokens = 0.0
        self._rows: list[list[float]] = []
        self._running: list[tuple[float, int]] = []
        self._queue: deque[int] = deque()
        self._arrival_s = math.inf if users else next(self._gaps)
        for _ in range(round(level) if users else 0):
            self._arrive()

    def until(self, end_s: float, drained: bool = False) -> Times:
        self._advance(end_s)
        rows = list(itertools.takewhile(lambda row: row[_DUE] < end_s, self._rows))
        later_s = end_s
        while drained and any(row[_LATENCY] == math.inf for row in rows):
            later_s += 1.0
            self._advance(later_s)
        due_s, ttft_s, latency_s, tokens = np.array(rows, dtype=np.float64).reshape(-1, 4).T
        with np.errstate(invalid="ignore"):
            return due_s, ttft_s, (latency_s - ttft_s) / (tokens - 1), latency_s

    def _advance(self, end_s: float) -> None:
        while True:
            step_s = self._step_s()
            done_s = self._now_s + (self._running[0][0] - self._tokens) * step_s if self._running else math.inf
            then_s = min(self._arrival_s, done_s)
            if then_s >= end_s:
                return
            self._tokens += (then_s - self._now_s) / step_s
            self._now_s = then_s
            if done_s < self._arrival_s:
                self._complete()
            else:
                self._arrive()
                self._arrival_s = then_s + next(self._gaps)

    def _step_s(self) -> float:
        return self._shape.step_s + self._shape.step_per_request_s * len(self._running)

    def _arrive(self) -> None:
        self._rows.append([self._now_s, math.inf, math.inf, next(self._lengths)])
        self._queue.append(len(self._rows) - 1)
        self._admit()

    def _admit(self) -> None:
        while self._queue and len(self._running) < self._shape.slots:
            index = self._queue.popleft()
            row = self._rows[index]
            heapq.heappush(self._running, (self._tokens + row[_TOKENS], index))
            row[_TTFT] = self._now_s + self._step_s() - row[_DUE]

    def _complete(self) -> None:
        row = self._rows[heapq.heappop(self._running)[1]]
        row[_LATENCY] = self._now_s - row[_DUE]
        self._admit()
        if self._users:
            self._arrive()


def _draws(draw: Callable[[], NDArray[np.generic]]) -> Iterator[float]:
    """Random numbers one by one, drawn many at a time."""
    while True:
        yield from draw().tolist()


@dataclass(frozen=True, slots=True)
class SimulatedQueue:
    """Poisson arrivals at exponential servers; the speed may swing slowly, with a phase of its own each time.

    Attributes:
        servers: Number of them.
        served_per_s: Requests per second of all of them together.
        swing: Largest deviation of the speed, as a share of it.
        period_s: Of the swing.
    """

    servers: int = 1
    served_per_s: float = 20.0
    swing: float = 0.0
    period_s: float = 3600.0

    def prober(self, seed: int) -> SimulatedProber:
        rng = np.random.default_rng(seed)

        def begin(level: float, load_s: float) -> Simulation:
            mean_s = self.servers / self.served_per_s
            return _Queue(level, self.servers, mean_s, rng, lambda due_s: 1 / self.speed(due_s + load_s, seed))

        return SimulatedProber(begin)

    def speed(self, at_s: Floats, seed: int) -> Floats:
        """The speed as a ratio to its mean."""
        phase = np.random.default_rng((seed, 1)).uniform(0, 2 * math.pi)
        return 1 + self.swing * np.sin(phase + at_s * (2 * math.pi / self.period_s))

    def capacity(self, limit_s: float, least: float, load_s: float = 0.0, seed: int = 0) -> float:
        """The mean over so many seconds of the rate at which a share `least` waits no longer than `limit_s`."""
        if not self.swing:
            return queue_capacity(self.servers, self.served_per_s, limit_s, least)
        speeds = self.speed(np.linspace(0, load_s, 11), seed) * self.served_per_s
        return float(np.mean([queue_capacity(self.servers, speed, limit_s, least) for speed in speeds]))


@dataclass(frozen=True, slots=True)
class SimulatedBatch:
    """Continuous batching, under Poisson arrivals or users."""

    shape: BatchShape = field(default_factory=BatchShape)
    users: bool = False

    def prober(self, seed: int) -> SimulatedProber:
        rng = np.random.default_rng(seed)
        return SimulatedProber(lambda level, _: _Batch(level, self.users, self.shape, rng))


@dataclass(frozen=True, slots=True)
class _Thrashing:
    rate_per_s: float
    slowdown: float
    seed: int

    def until(self, end_s: float, drained: bool = False) -> Times:
        n = int(2 * self.rate_per_s * end_s + 100)  # the first values of a stream do not depend on how many are drawn
        due_s = np.cumsum(np.random.default_rng(self.seed).exponential(1 / self.rate_per_s, n))
        ttft_s = 0.2 * self.slowdown * np.random.default_rng(self.seed + 1).lognormal(0.0, 0.1, n)
        due = due_s < end_s
        return due_s[due], ttft_s[due], np.full(int(due.sum()), _DECODE_S), ttft_s[due] + 1.0


@dataclass(frozen=True, slots=True)
class SimulatedCliff:
    """First tokens after about 0.2 s up to a rate, and after about 4 s beyond it, as when a cache thrashes."""

    capacity_per_s: float = 24.0

    def prober(self, seed: int) -> SimulatedProber:
        rng = np.random.default_rng(seed)

        def begin(level: float, _: float) -> Simulation:
            return _Thrashing(level, 20.0 if level > self.capacity_per_s else 1.0, int(rng.integers(2**32)))

        return SimulatedProber(begin)
