"""Simulated engines of known capacity: by a formula where there is one, elsewhere by a long simulation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimize.capacity import ProbeRun, Quantity, Requests, Search, Slo, SloLimit, Unit
from optimize.testing.simulated_engines import (
    BatchShape,
    SimulatedBatch,
    SimulatedCliff,
    SimulatedProber,
    SimulatedQueue,
)

_LONG_REQUESTS = {True: 400_000, False: 100_000}
"""In a long simulation: of an engine whose capacity has a formula, which is cheap to simulate, and of another."""
_TRUTH_REQUESTS, _TRUTH_SEEDS, _FACTOR = 40_000, 4, 8.0
_BETWEEN, _USERS = np.linspace(0.985, 1.015, 11), range(-3, 4)
_LONG_SEED = 7
_USERS_PER_S = 20.0
_GRID = np.concatenate([np.geomspace(0.7, 0.92, 6), np.linspace(0.94, 1.06, 13), np.geomspace(1.08, 1.3, 5)])


@dataclass(frozen=True, slots=True)
class Case:
    """An engine and an SLO.

    Attributes:
        name: For people.
        prober: The engine, anew for a seed.
        slo: What must hold.
        search: Levels, precision and budget.
        truth: The capacity; of a drifting engine, over so many seconds with a seed. None: by a long simulation.
        about: Roughly the capacity, where the long simulations are made.
    """

    name: str
    prober: Callable[[int], SimulatedProber]
    slo: Slo
    search: Search
    truth: Callable[[float, int], float] | None
    about: float

    @property
    def rate_per_s(self) -> float:
        """Roughly the requests per second at the capacity."""
        return self.about if self.search.unit is Unit.PER_S else _USERS_PER_S

    @property
    def long_s(self) -> float:
        """Seconds of a long simulation."""
        return _LONG_REQUESTS[self.truth is not None] / self.rate_per_s

    @property
    def criterion(self) -> str:
        """Name of what must hold."""
        return next(iter(self.slo.criteria()))

    @property
    def least(self) -> float:
        """Share of the requests that must meet it."""
        return self.slo.criteria()[self.criterion]


_LIVE_S = 90.0
"""Seconds of load of `+study=capacity`, where a search ends with the interval that it has."""


def _search(unit: Unit = Unit.PER_S, most_s: float = 3000.0) -> Search:
    return Search(unit, 1.0, 400.0, precision=0.15, most_s=most_s)


def _queue(name: str, queue: SimulatedQueue, limit_s: float, least: float) -> Case:
    slo = Slo((SloLimit(Quantity.TTFT, limit_s, least),))
    about = SimulatedQueue(queue.servers, queue.served_per_s).capacity(limit_s, least)
    return Case(name, queue.prober, slo, _search(), lambda s, seed: queue.capacity(limit_s, least, s, seed), about)


def _batch(name: str, engine: SimulatedBatch, limit: SloLimit, about: float, most_s: float = 3000.0) -> Case:
    unit = Unit.USERS if engine.users else Unit.PER_S
    return Case(name, engine.prober, Slo((limit,)), _search(unit, most_s), None, about)


def cases() -> list[Case]:
    few, many = BatchShape(slots=8), BatchShape(slots=48)
    fast, latency = BatchShape(32, 0.004, 0.0003, (16, 64)), SloLimit(Quantity.LATENCY, 2.0)
    ttft, tpot, of_users = (
        SloLimit(Quantity.TTFT, 0.5, 0.9), SloLimit(Quantity.TPOT, 0.03, 0.9), SloLimit(Quantity.TTFT, 1.0, 0.9)
    )  # fmt: skip
    cliff, steep = SimulatedCliff(), Slo((SloLimit(Quantity.TTFT, 0.5),))
    return [
        _queue("one server, P90 of TTFT", SimulatedQueue(1), 0.5, 0.9),
        _queue("one server, P99 of TTFT", SimulatedQueue(1), 1.0, 0.99),
        _queue("8 servers, P95 of TTFT", SimulatedQueue(8), 0.3, 0.95),
        _batch("batch of 8, P90 of TTFT", SimulatedBatch(few), ttft, 9.3),
        _batch("batch of 32, P90 of TPOT", SimulatedBatch(), tpot, 13.4),
        _batch("batch of 48, users, P90 of TTFT", SimulatedBatch(many, users=True), of_users, 63.0),
        _batch("fast batch of 32, P99 of latency", SimulatedBatch(fast), latency, 57.8),
        _batch(f"the same within {_LIVE_S:g} s of load", SimulatedBatch(fast), latency, 57.8, _LIVE_S),
        Case("cliff, P99 of TTFT", cliff.prober, steep, _search(), lambda _, __: cliff.capacity_per_s, 24.0),
        _queue("8 servers whose speed swings by 5 %, P95 of TTFT", SimulatedQueue(8, swing=0.05), 0.3, 0.95),
    ]


@dataclass(frozen=True, slots=True)
class LongRun:
    """A long simulation of one level. Attributes: due_s: When requests were due. within: Which met the criterion."""

    level: float
    due_s: NDArray[np.float64]
    within: NDArray[np.bool_]

    @property
    def share(self) -> float:
        return float(self.within.mean())

    def holds(self, least: float, window_s: float, rng: np.random.Generator) -> bool:
        """Whether a window somewhere in it meets the criterion."""
        start_s = rng.uniform(self.due_s[0], max(self.due_s[-1] - window_s, self.due_s[0] + 1e-9))
        first, last = np.searchsorted(self.due_s, [start_s, start_s + window_s])
        return first == last or float(self.within[first:last].mean()) >= least


def long_runs(case: Case) -> list[LongRun]:
    """At levels around the capacity, each without its first twentieth."""
    levels = case.about * _GRID
    if case.search.unit is Unit.USERS:
        levels = np.unique(np.round(levels))
    return [_long_run(case, float(level), case.long_s) for level in levels]


def _long_run(case: Case, level: float, end_s: float, seed: int = _LONG_SEED) -> LongRun:
    run: ProbeRun = case.prober(seed)(level, lambda requests, load_s: False, end_s)
    requests: Requests = run.requests.between(end_s / 20, end_s)
    return LongRun(level, requests.due_s, case.slo.within(requests)[case.criterion])


def truth_of(case: Case, runs: Sequence[LongRun]) -> float:
    """The capacity by the formula, or by more simulations around the level where the SLO breaks in long ones."""
    if case.truth is not None:
        return case.truth(case.long_s, _LONG_SEED)
    middle = next(run.level for run in runs if run.share < case.least)
    levels = [middle + x for x in _USERS] if case.search.unit is Unit.USERS else (middle * _BETWEEN).tolist()
    end_s = _TRUTH_REQUESTS / case.rate_per_s
    late = [statistics.fmean(1 - _long_run(case, x, end_s, seed).share for seed in range(_TRUTH_SEEDS)) for x in levels]
    level = crossing(levels, late, 1 - case.least)
    return float(math.floor(level)) if case.search.unit is Unit.USERS else level


def crossing(levels: Sequence[float], late: Sequence[float], allowed: float) -> float:
    """The level where the share of misses rises to the allowed one, by a line through all that are near it.

    Of the logarithms of both, where misses are between an eighth of and eight times the allowed ones: that is surer
    than the two levels between which the SLO breaks.
    """
    x, y = np.log(levels), np.log(np.maximum(late, 1e-9)) - math.log(allowed)
    near = np.abs(y) < math.log(_FACTOR)
    slope, height = np.polyfit(x[near], y[near], 1)
    return math.exp(-height / slope)
