"""Does the interval around a capacity cover the truth, and what does it cost? On simulated engines of known capacity.

Usage: python -m benchmarks.capacity_simulated [--runs 500]

Beside it a bisection with fixed windows, as load tools do it: doubling until a window breaks the SLO, then halving. Its
window and number of steps are the cheapest that are as precise (root mean square error) on the very engine, which its
user cannot know; its windows come from the steady state, so that they need no warm-up. They hold as many requests as
must all be within for the share to be shown: three times the reciprocal of the share that may miss.
Where no formula gives the truth, a long simulation does.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, provenance
from objectives.intervals import proportion_interval
from optimize.capacity import Capacity, ProbeRun, Quantity, Requests, Search, Slo, SloLimit, Unit, estimate
from optimize.testing.simulated_engines import (
    BatchShape,
    SimulatedBatch,
    SimulatedCliff,
    SimulatedProber,
    SimulatedQueue,
)

_LONG_REQUESTS = 40_000
_GRID = np.geomspace(0.7, 1.3, 15)
_BISECTIONS = 300
_WINDOW_GROWTH, _WINDOWS = 1.4, 20
_STEPS = range(2, 7)


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


def _search(unit: Unit = Unit.PER_S) -> Search:
    return Search(unit, 1.0, 400.0, precision=0.15, most_s=3000.0)


def _queue(name: str, queue: SimulatedQueue, limit_s: float, least: float) -> Case:
    slo = Slo((SloLimit(Quantity.TTFT, limit_s, least),))
    about = SimulatedQueue(queue.servers, queue.served_per_s).capacity(limit_s, least)
    return Case(name, queue.prober, slo, _search(), lambda s, seed: queue.capacity(limit_s, least, s, seed), about)


def _batch(name: str, engine: SimulatedBatch, limit: SloLimit, about: float) -> Case:
    unit = Unit.USERS if engine.users else Unit.PER_S
    return Case(name, engine.prober, Slo((limit,)), _search(unit), None, about)


def cases() -> list[Case]:
    few, many = BatchShape(slots=8), BatchShape(slots=16)
    ttft, tpot, of_users = (
        SloLimit(Quantity.TTFT, 0.5, 0.9), SloLimit(Quantity.TPOT, 0.03, 0.9), SloLimit(Quantity.TTFT, 1.0, 0.9)
    )  # fmt: skip
    cliff, steep = SimulatedCliff(), Slo((SloLimit(Quantity.TTFT, 0.5),))
    return [
        _queue("one server, P90 of TTFT", SimulatedQueue(1), 0.5, 0.9),
        _queue("one server, P99 of TTFT", SimulatedQueue(1), 1.0, 0.99),
        _queue("8 servers, P95 of TTFT", SimulatedQueue(8), 0.3, 0.95),
        _batch("batch of 8, P90 of TTFT", SimulatedBatch(few), ttft, 9.5),
        _batch("batch of 32, P90 of TPOT", SimulatedBatch(), tpot, 13.4),
        _batch("batch of 16, users, P90 of TTFT", SimulatedBatch(many, users=True), of_users, 28.0),
        Case("cliff, P99 of TTFT", cliff.prober, steep, _search(), lambda _, __: cliff.capacity_per_s, 24.0),
        _queue("8 servers whose speed swings by 5 %, P95 of TTFT", SimulatedQueue(8, swing=0.05), 0.3, 0.95),
    ]


# --- long simulations ---


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
    return [_long_run(case, float(level)) for level in levels]


def _long_run(case: Case, level: float) -> LongRun:
    rate = level if case.search.unit is Unit.PER_S else 15.0
    end_s = _LONG_REQUESTS / rate
    run: ProbeRun = case.prober(7)(level, lambda requests, load_s: False, end_s)
    requests: Requests = run.requests.between(end_s / 20, end_s)
    return LongRun(level, requests.due_s, case.slo.within(requests)[_criterion(case)])


def _criterion(case: Case) -> str:
    return next(iter(case.slo.criteria()))


def truth_of(case: Case, runs: Sequence[LongRun]) -> float:
    """Where the share within falls to the least; of users, the last level before."""
    least = case.slo.criteria()[_criterion(case)]
    above = next(i for i, run in enumerate(runs) if run.share < least)
    low, high = runs[above - 1], runs[above]
    if case.search.unit is Unit.USERS:
        return low.level
    at, below, beyond = (math.log(1 - share) for share in (least, min(low.share, 1 - 1e-6), high.share - 1e-12))
    return low.level * float((high.level / low.level) ** ((at - below) / (beyond - below)))


# --- bisection with fixed windows ---


def bisect(
    case: Case, runs: Sequence[LongRun], window_s: float, steps: int, rng: np.random.Generator
) -> tuple[float, int]:
    """(capacity, windows) of one search."""
    least = case.slo.criteria()[_criterion(case)]

    def holds(level: float) -> bool:
        if level < runs[0].level:
            return True
        if level > runs[-1].level:
            return False
        return min(runs, key=lambda run: abs(math.log(run.level / level))).holds(least, window_s, rng)

    high, windows = case.search.first * math.exp(rng.uniform(-0.35, 0.35)), 1
    while holds(high):
        high, windows = 2 * high, windows + 1
    low = high / 2
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return math.sqrt(low * high), windows + steps


def cheapest_bisection(case: Case, runs: Sequence[LongRun], truth: float, error: float) -> tuple[float, float]:
    """(window in seconds, seconds of load per search) of the cheapest that is as precise; infinite where none is."""
    rng = np.random.default_rng(1)
    rate = case.about if case.search.unit is Unit.PER_S else 15.0
    first_s = 3 / (1 - case.slo.criteria()[_criterion(case)]) / rate
    best = (math.inf, math.inf)
    for window_s in first_s * _WINDOW_GROWTH ** np.arange(_WINDOWS):
        for steps in _STEPS:
            searches = [bisect(case, runs, window_s, steps, rng) for _ in range(_BISECTIONS)]
            load_s = window_s * statistics.fmean(windows for _, windows in searches)
            if root_mean_square([value / truth - 1 for value, _ in searches]) <= error and load_s < best[1]:
                best = window_s, load_s
        if best[1] < math.inf:
            break
    return best


def root_mean_square(errors: Sequence[float]) -> float:
    return math.sqrt(statistics.fmean(error**2 for error in errors))


# --- the study ---


@dataclass(frozen=True, slots=True)
class Result:
    """Of one case. Attributes: capacities: By seed. truths: By seed. bisection: Its window and its seconds of load."""

    case: Case
    capacities: Sequence[Capacity]
    truths: Sequence[float]
    bisection: tuple[float, float]

    def row(self) -> str:
        pairs = list(zip(self.capacities, self.truths, strict=True))
        hits = sum(c.low <= truth <= c.high for c, truth in pairs)
        share, low, high = proportion_interval(hits, len(pairs))
        half = statistics.median((c.high - c.low) / 2 / truth for c, truth in pairs)
        load_s = statistics.fmean(c.load_s for c in self.capacities)
        window_s, rival_s = self.bisection
        return (
            f"| {self.case.name} | {statistics.fmean(self.truths):.2f} | {share:.1%} [{low:.1%}, {high:.1%}] | "
            f"{half:.1%} | {self.error:.1%} | {load_s:.0f} | {rival_s:.0f} ({window_s:.0f}) | {load_s / rival_s:.2f} | "
            f"{called_different(self.capacities):.1%} |"
        )

    @property
    def error(self) -> float:
        return root_mean_square([c.value / t - 1 for c, t in zip(self.capacities, self.truths, strict=True)])


def called_different(capacities: Sequence[Capacity]) -> float:
    """Share of neighbours, all of the same engine, of which the search says that they differ."""
    pairs = list(zip(capacities[::2], capacities[1::2], strict=False))
    return statistics.fmean(a.differs_from(b) for a, b in pairs) if pairs else 0.0


def study(case: Case, runs: int) -> Result:
    capacities = [estimate(case.prober(seed), case.slo, case.search, seed) for seed in range(runs)]
    long = long_runs(case)
    if case.truth is None:
        truths = [truth_of(case, long)] * runs
    else:
        truths = [case.truth(capacity.load_s, seed) for seed, capacity in enumerate(capacities)]
    result = Result(case, capacities, truths, (math.inf, math.inf))
    about = truth_of(case, long)
    return Result(case, capacities, truths, cheapest_bisection(case, long, about, result.error))


HEAD = """\
| engine and SLO | capacity | interval covers | half its width | error | load, s | bisection, s (window) | ratio | A/A |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    rows = [HEAD]
    for case in cases():
        rows.append(study(case, runs).row())
        print(rows[-1], flush=True)
    head = f"# Capacity on simulated engines\n\n{provenance(f'python -m benchmarks.capacity_simulated --runs {runs}')}"
    (RESULTS / "capacity_simulated.md").write_text(
        "\n\n".join([head, _WORDS, "\n".join(rows)]) + "\n", encoding="utf-8"
    )


_WORDS = """\
Simulated engines in virtual time; nothing here is a figure of a real one. Capacity is in requests per second, or users.
The interval is to cover the truth in 95 % of the runs; half its width and the error (root mean square) are shares of
the truth. The bisection doubles until a window of fixed length breaks the SLO, and then halves; it is the cheapest one
that is as precise on the very engine, its windows are taken from the steady state and need no warm-up, and it has no
interval. A/A: of two searches on the same engine, how often they are called different, which is to be 5 %."""


if __name__ == "__main__":
    main()
