"""Does the interval around a capacity cover the truth, and what does it cost? On simulated engines of known capacity.

Usage: python -m benchmarks.capacity_simulated [--runs 500]

Beside it a bisection with fixed windows, as load tools do it: doubling until a window breaks the SLO, then halving. It
has an interval only by being repeated (Student's t). Its window, steps and repeats are the cheapest whose interval is
as narrow as the search's and covers the truth in 93 % or more: once for each engine, which its user cannot know, and
once for all of them together. Its windows come from the steady state, so that they need no warm-up.
Where no formula gives the truth, a long simulation does.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.common import RESULTS, processes, provenance
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
_USERS_PER_S = 20.0
_GRID = np.geomspace(0.7, 1.3, 15)
_BISECTIONS = 150
_WINDOWS_S = 20 * 1.5 ** np.arange(8)
_STEPS = range(2, 7)
_REPEATS = (2, 3, 4, 5, 6, 8, 10)
_GROUPS, _COVERS = 400, 0.93


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
    few, many = BatchShape(slots=8), BatchShape(slots=48)
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
        _batch("batch of 48, users, P90 of TTFT", SimulatedBatch(many, users=True), of_users, 64.0),
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
    end_s = _LONG_REQUESTS / case.rate_per_s
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
    at, below, beyond = (math.log(1 - share) for share in (least, min(low.share, 1 - 1e-6), high.share - 1e-12))
    truth = low.level * float((high.level / low.level) ** ((at - below) / (beyond - below)))
    return float(math.floor(truth)) if case.search.unit is Unit.USERS else truth


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


Setting = tuple[float, int, int]
"""(window in seconds, steps, repeats) of a bisection."""


def bisections(case: Case, runs: Sequence[LongRun], half: float) -> dict[Setting, float]:
    """Settings whose interval is as narrow and covers the truth in 93 % or more -> seconds of load."""
    rng, truth, costs = np.random.default_rng(1), truth_of(case, runs), {}
    for window_s, steps in itertools.product(_WINDOWS_S, _STEPS):
        searches = np.array([bisect(case, runs, window_s, steps, rng) for _ in range(_BISECTIONS)])
        one_s = window_s * float(searches[:, 1].mean())
        for repeats in _REPEATS:
            groups = rng.choice(searches[:, 0] / truth, (_GROUPS, repeats))
            halves = stdtrit(repeats - 1, 0.975) * groups.std(1, ddof=1) / math.sqrt(repeats)
            covers = float((np.abs(groups.mean(1) - 1) <= halves).mean())
            if float(np.median(halves)) <= half and covers >= _COVERS:
                costs[window_s, steps, repeats] = repeats * one_s
    return costs


def best_for_all(costs: Sequence[dict[Setting, float]]) -> Setting | None:
    """The cheapest setting in all that suits every engine; None where there is none."""
    common = set.intersection(*(set(cost) for cost in costs))
    return min(common, key=lambda setting: sum(cost[setting] for cost in costs), default=None)


def root_mean_square(errors: Sequence[float]) -> float:
    return math.sqrt(statistics.fmean(error**2 for error in errors))


# --- the study ---


@dataclass(frozen=True, slots=True)
class Result:
    """Of one case. Attributes: capacities: By seed. truths: By seed. rivals: See `bisections`."""

    case: Case
    capacities: Sequence[Capacity]
    truths: Sequence[float]
    rivals: dict[Setting, float] = field(default_factory=dict)

    def row(self, common: Setting | None) -> str:
        pairs = list(zip(self.capacities, self.truths, strict=True))
        hits = sum(c.low <= truth <= c.high for c, truth in pairs)
        share, low, high = proportion_interval(hits, len(pairs))
        tuned = min(self.rivals, key=lambda setting: self.rivals[setting], default=None)
        cells = [
            self.case.name, f"{statistics.fmean(self.truths):.2f}", f"{share:.1%} ({low:.1%}–{high:.1%})",
            f"{self.half:.1%}", f"{self.error:.1%}", f"{self.load_s:.0f}", self._beside(tuned), self._beside(common),
            f"{called_different(self.capacities):.1%}",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def _beside(self, setting: Setting | None) -> str:
        if setting is None:
            return "none"
        window_s, _, repeats = setting
        load_s = self.rivals[setting]
        return f"{load_s:.0f} ({repeats} x {window_s:.0f} s): {self.load_s / load_s:.2f}"

    @property
    def load_s(self) -> float:
        return statistics.fmean(c.load_s for c in self.capacities)

    @property
    def half(self) -> float:
        return statistics.median((c.high - c.low) / 2 / t for c, t in zip(self.capacities, self.truths, strict=True))

    @property
    def error(self) -> float:
        return root_mean_square([c.value / t - 1 for c, t in zip(self.capacities, self.truths, strict=True)])


def called_different(capacities: Sequence[Capacity]) -> float:
    """Share of neighbours, all of the same engine, of which the search says that they differ."""
    pairs = list(zip(capacities[::2], capacities[1::2], strict=False))
    return statistics.fmean(a.differs_from(b) for a, b in pairs) if pairs else 0.0


FIRST_SEED = 1_000_000
"""No run is one of those on which the search was calibrated: their seeds count from 0."""
Evidence = tuple[list[Capacity], list[float], dict[Setting, float]]


def study(index: int, runs: int) -> Evidence:
    """(capacities, truths, rivals) of a case by its number, for a process of its own."""
    case, seeds = cases()[index], range(FIRST_SEED, FIRST_SEED + runs)
    capacities = [estimate(case.prober(seed), case.slo, case.search, seed) for seed in seeds]
    long = long_runs(case)
    if case.truth is None:
        truths = [truth_of(case, long)] * runs
    else:
        truths = [case.truth(capacity.load_s, seed) for seed, capacity in zip(seeds, capacities, strict=True)]
    return capacities, truths, bisections(case, long, Result(case, capacities, truths).half)


HEAD = """\
| engine and SLO | capacity | interval covers | half its width | error | load, s | bisection tuned to it, s: ratio \
| one bisection for all, s: ratio | A/A |
|---|---|---|---|---|---|---|---|---|"""
_WORDS = """\
Simulated engines in virtual time; nothing here is a figure of a real one. Capacity is in requests per second, or users.
The interval is to cover the truth in 95 % of the runs; half its width and the error (root mean square) are shares of
the truth. The bisection doubles until a window of fixed length breaks the SLO, and then halves. It has an interval only
by repeats (Student's t); repeats, steps and window are the cheapest whose interval is as narrow as the search's and
covers the truth in 93 % or more, found for each engine by itself, which nobody can do before knowing its capacity, and
for all engines together. Its windows are taken from the steady state and need no warm-up; the search's load includes
its own. A/A: of two searches on the same engine, how often they are called different, which is to be 5 % or less; the
swing of the last engine is another each time. The search was calibrated on these engines, with other seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    results: list[Result] = []
    with processes() as pool:
        for case, evidence in zip(cases(), pool.map(study, range(len(cases())), itertools.repeat(runs)), strict=True):
            results.append(Result(case, *evidence))
            print(results[-1].row(None), flush=True)
            _write(results, runs)


def _write(results: Sequence[Result], runs: int) -> None:
    """The page of the engines so far."""
    common = best_for_all([result.rivals for result in results])
    table = "\n".join([HEAD, *(result.row(common) for result in results)])
    head = f"# Capacity on simulated engines\n\n{provenance(f'python -m benchmarks.capacity_simulated --runs {runs}')}"
    (RESULTS / "capacity_simulated.md").write_text("\n\n".join([head, _WORDS, table]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
