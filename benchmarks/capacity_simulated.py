"""Does the interval around a capacity cover the truth, and what does it cost? On simulated engines of known capacity.

Usage: python -m benchmarks.capacity_simulated [--runs 500]

Beside it a bisection (`benchmarks.bisection`) whose window, steps and repeats are the cheapest whose interval is as
narrow as the search's and covers the truth in 93 % or more: once for each engine, which its user cannot know, and once
for all of them together.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.bisection import Setting, as_narrow, best_for_all, bisections
from benchmarks.capacity_cases import Case, cases, long_runs, truth_of
from benchmarks.common import RESULTS, processes, provenance
from objectives.intervals import proportion_interval
from optimize.capacity import Capacity, estimate


def root_mean_square(errors: Sequence[float]) -> float:
    return math.sqrt(statistics.fmean(error**2 for error in errors))


@dataclass(frozen=True, slots=True)
class Result:
    """Of one case. Attributes: capacities: By seed. truths: By seed. rivals: See `as_narrow`."""

    case: Case
    capacities: Sequence[Capacity]
    truths: Sequence[float]
    rivals: dict[Setting, float] = field(default_factory=dict)

    def row(self, common: Setting | None) -> str:
        pairs = list(zip(self.capacities, self.truths, strict=True))
        hits = sum(c.low <= truth <= c.high for c, truth in pairs)
        share, low, high = proportion_interval(hits, len(pairs))
        cells = [
            self.case.name, f"{statistics.fmean(self.truths):.2f}", f"{share:.1%} ({low:.1%}–{high:.1%})",
            f"{self.half:.1%}", f"{self.error:.1%}", f"{self.load_s:.0f}", self._beside(self.tuned),
            self._beside(common), f"{called_different(self.capacities):.1%}",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"

    @property
    def tuned(self) -> Setting | None:
        """The cheapest bisection for this engine."""
        return min(self.rivals, key=lambda setting: self.rivals[setting], default=None)

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


def sum_row(results: Sequence[Result], common: Setting | None) -> str:
    """Seconds of load of all engines together."""
    own_s = sum(result.load_s for result in results)
    beside = [
        [result.rivals[setting] for result, setting in zip(results, settings, strict=True) if setting is not None]
        for settings in ([result.tuned for result in results], [common] * len(results))
    ]
    sums = [f"{sum(loads):.0f}: {own_s / sum(loads):.2f}" if len(loads) == len(results) else "none" for loads in beside]
    return f"| all together | | | | | {own_s:.0f} | {' | '.join(sums)} | |"


def called_different(capacities: Sequence[Capacity]) -> float:
    """Share of neighbours, all of the same engine, of which the search says that they differ."""
    pairs = list(zip(capacities[::2], capacities[1::2], strict=False))
    return statistics.fmean(a.differs_from(b) for a, b in pairs) if pairs else 0.0


FIRST_SEED = 2_000_000
"""No run is one of those on which the search was calibrated: their seeds count from 0."""
Evidence = tuple[list[Capacity], list[float], dict[Setting, float]]


def study(index: int, runs: int) -> Evidence:
    """(capacities, truths, rivals) of a case by its number, for a process of its own."""
    case, seeds = cases()[index], range(FIRST_SEED, FIRST_SEED + runs)
    capacities = [estimate(case.prober(seed), case.slo, case.search, seed) for seed in seeds]
    long = long_runs(case)
    truth = truth_of(case, long)
    truths = [
        case.truth(capacity.load_s, seed) if case.truth else truth
        for seed, capacity in zip(seeds, capacities, strict=True)
    ]
    every = bisections(case, long, truth)
    return capacities, truths, as_narrow(every, Result(case, capacities, truths).half)


HEAD = """\
| engine and SLO | capacity | interval covers | half its width | error | load, s | bisection tuned to it, s: ratio \
| one bisection for all, s: ratio | A/A |
|---|---|---|---|---|---|---|---|---|"""
_WORDS = """\
Simulated engines in virtual time; nothing here is a figure of a real one. Capacity is in requests per second, or users.
The interval is to cover the truth in 95 % of the runs; half its width and the error (root mean square) are shares of
the truth. Users are whole: an interval of few of them covers more often than it is to. A/A: of two searches on the same
engine, how often they are called different, which is to be 5 % or less; the swing of the last engine is another each
time. The search was calibrated on these engines, with other seeds.

The bisection doubles until a window of fixed length breaks the SLO, and then halves. It has an interval only by repeats
(Student's t); repeats, steps and window are the cheapest whose interval is as narrow as the search's and covers the
truth in 93 % or more: found for each engine by itself, which nobody can do before knowing its capacity, and for all
engines together, as whoever chooses a setting once must. Its windows are taken from long simulations of levels that are
1 % apart, so that it is not blamed for an error of 1 %, and need no warm-up; the search's load includes its own."""


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
    table = "\n".join([HEAD, *(result.row(common) for result in results), sum_row(results, common)])
    head = f"# Capacity on simulated engines\n\n{provenance(f'python -m benchmarks.capacity_simulated --runs {runs}')}"
    (RESULTS / "capacity_simulated.md").write_text("\n\n".join([head, _WORDS, table]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
