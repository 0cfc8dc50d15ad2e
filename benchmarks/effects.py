"""How often the intervals of effects hold the truth, and how many effects of 20 % a study of 24 trials shows.

Usage: python -m benchmarks.effects [--seeds 12] [--only NAME ...]

The studies are searches of what `benchmarks.searching` searches, where the truth of every configuration is known. An
effect is judged against the mean of the true differences over the configurations that its study measured, of those that
can be measured with and without the change.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, processes, provenance
from benchmarks.searching import hpobench
from benchmarks.searching.live_table import LiveTable
from benchmarks.searching.problem import Point, Problem, Reading
from benchmarks.searching.samplers import OURS, SAMPLERS
from benchmarks.searching.study import run
from benchmarks.searching.synthetic import Synthetic
from objectives.intervals import proportion_interval
from optimize.report.effects import levels
from optimize.search.effects import Change, Effects, Size
from optimize.search.encoding import Array

TRIALS = 24
REAL, LARGE, NOTHING = math.log(1.2), math.log(1.5), math.log(1.02)


@cache
def _vllm() -> Problem:
    return hpobench.vllm()


TABLES: dict[str, Callable[[int], Problem]] = {
    "live table, 4 knobs": lambda _: LiveTable(),
    "made up, 4 knobs, noise 5 %": lambda seed: Synthetic(knobs=4, infeasible=0.3, noise=0.05, seed=seed),
    "made up, 8 knobs, noise 5 %": lambda seed: Synthetic(knobs=8, infeasible=0.3, noise=0.05, seed=seed),
    "LLMSYS-HPOBench vLLM": lambda _: _vllm(),
}
_PAIRED = 5
_HOW = (
    "{seeds} studies of {trials} trials on each table by this project's search. An effect is the mean over the study's "
    "measured trials of what a change does beside the other settings of each; its truth is the mean of the true "
    "differences at the same settings, if at least half of them can be measured. Judged are all changes from the "
    "default that a report tells of, listed or not. Shares have 95 % intervals, as if effects of one study were "
    "independent, which they are not: they share its readings."
)
_SOURCE = (
    "LLMSYS-HPOBench (arXiv 2605.08305, CC BY 4.0) was measured by others; its truth, and what readings miss of it, "
    "are those of `benchmarks.searching`."
)


@dataclass(frozen=True)
class Judged:
    """An effect that a study told, and its truth, both on the scale of the model.

    Attributes:
        figure: Objective.
        knobs: One or two.
        estimate: Size.
        truth: True size.
        scale: What a logarithm of 1 is on this scale: 1 for logarithms, else the baseline's figure.
    """

    figure: str
    knobs: int
    estimate: Size
    truth: float
    scale: float

    @property
    def held(self) -> bool:
        return self.estimate.low <= self.truth <= self.estimate.high

    @property
    def listed(self) -> bool:
        return not self.estimate.low <= 0 <= self.estimate.high

    @property
    def right(self) -> bool:
        """Listed with the sign of the truth."""
        return self.listed and self.estimate.value * self.truth > 0

    @property
    def size(self) -> float:
        return abs(self.truth) / self.scale


class Recorded:
    """A problem that keeps what is drawn from it."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.points: list[Point] = []
        self.values: list[Sequence[float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def draw(self, point: Point, earlier: Sequence[Reading], rng: np.random.Generator) -> Reading:
        reading = self._problem.draw(point, earlier, rng)
        if reading.values is not None:
            self.points.append(dict(point))
            self.values.append(reading.values)
        return reading

    def share(self, points: object) -> float:
        """Not asked for here, and dear."""
        return 0.0


def study(table: str, seed: int) -> list[Judged]:
    """The effects that one study tells."""
    problem = TABLES[table](seed)
    recorded: Any = Recorded(problem)
    run(recorded, SAMPLERS[OURS](problem, seed), seed, TRIALS)
    results: list[Judged] = []
    for place, (name, objective) in enumerate(problem.objectives.items()):
        values = np.array([v[place] for v in recorded.values])
        values = np.log(values) if objective.log else values
        if np.ptp(values) == 0:
            continue
        effects = Effects(problem.space, recorded.points, values, problem.saturation)
        truth = _Truth(problem, recorded.points, place)
        results += _judged(name, effects, truth, changes(recorded.points))
    return results


def _judged(name: str, effects: Effects, truth: _Truth, single: Sequence[Change]) -> Iterator[Judged]:
    """All single changes, and the pairs of the largest that would be listed."""
    alone = [(change, effects.of(change)) for change in single]
    shown = [(c, s) for c, s in alone if not s.low <= 0 <= s.high]
    largest = [c for c, _ in sorted(shown, key=lambda x: -abs(x[1].value))[:_PAIRED]]
    pairs = [
        Change({**a.new, **b.new}, {**a.old, **b.old})
        for a, b in itertools.combinations(largest, 2)
        if a.new.keys() != b.new.keys()
    ]
    for change, size in [*alone, *((c, effects.of(c)) for c in pairs)]:
        true = truth.of(change)
        if true is not None:
            yield Judged(name, len(change.new), size, true, truth.scale)


def changes(points: Sequence[Point]) -> list[Change]:
    """Changes from the first point, the baseline, that a report tells of."""
    return [
        Change({knob: value}, {knob: default})
        for knob, default in points[0].items()
        for value in levels([p[knob] for p in points])
        if value != default
    ]


class _Truth:
    """True effects on one objective.

    Attributes:
        scale: As for `Judged`.
    """

    def __init__(self, problem: Problem, points: Sequence[Point], place: int) -> None:
        self._problem, self._points, self._place = problem, points, place
        self._log = list(problem.objectives.values())[place].log
        self.scale = 1.0 if self._log else abs(float(self._values(points[:1])[0]))

    def of(self, change: Change) -> float | None:
        """None where fewer than half of the study's points can be measured with and without the change."""
        total = np.zeros(len(self._points))
        for sign, settings in _corners(change):
            total += sign * self._values([{**p, **settings} for p in self._points])
        measured = total[~np.isnan(total)]
        return float(measured.mean()) if 2 * len(measured) >= len(total) else None

    def _values(self, points: Sequence[Point]) -> Array:
        values: Array = self._problem.figures(points)[:, self._place]
        return np.log(values) if self._log else values


def _corners(change: Change) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The settings whose signed sum is what a change does."""
    for olds in itertools.product((False, True), repeat=len(change.new)):
        settings = {k: (change.old if old else change.new)[k] for k, old in zip(change.new, olds, strict=True)}
        yield (-1) ** sum(olds), settings


def _share(hits: Sequence[bool]) -> str:
    if not hits:
        return "–"
    _, low, high = proportion_interval(sum(hits), len(hits))
    return f"{100 * np.mean(hits):.0f} % ({100 * low:.0f}–{100 * high:.0f}) of {len(hits)}"


def row(name: str, judged: Sequence[Judged]) -> str:
    listed = [j for j in judged if j.listed]
    cells = [
        name, _share([j.held for j in judged]), _share([j.right for j in judged if j.size >= REAL]),
        _share([j.right for j in judged if j.size >= LARGE]),
        _share([j.held for j in listed]), _share([j.right for j in listed]),
        _share([j.listed for j in judged if j.size <= NOTHING]),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table_of(rows: Mapping[str, Sequence[Judged]]) -> str:
    head = [
        "", "intervals that hold the truth", "effects of 20 % shown", "of 50 %", "listed: hold the truth",
        "listed: right sign", "shown though below 2 %",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(row(name, judged) for name, judged in rows.items())])


def page(results: Mapping[str, Sequence[Judged]], seeds: int) -> str:
    single, pairs = ({n: [j for j in r if j.knobs == k] for n, r in results.items()} for k in (1, 2))
    by_objective = {
        f"{name}: {figure}": [j for j in judged if j.figure == figure]
        for name, judged in single.items()
        for figure in dict.fromkeys(j.figure for j in judged)
    }
    parts = [
        "# Effects of the knobs, where the truth is known",
        provenance("python -m benchmarks.effects").replace("Measured", "Replayed"),
        _HOW.format(seeds=seeds, trials=TRIALS), _SOURCE, "## One knob", table_of(single),
        "## What two knobs add to each other", "Pairs of the five largest changes that are shown.", table_of(pairs),
        "## One knob, by objective", table_of(by_objective),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=list(TABLES), choices=list(TABLES))
    args = parser.parse_args()
    with processes() as pool:
        jobs = {name: [pool.submit(study, name, seed) for seed in range(args.seeds)] for name in args.only}
        results: dict[str, list[Judged]] = {}
        for name, started in jobs.items():
            results[name] = [j for job in started for j in job.result()]
            print(page({name: results[name]}, args.seeds), flush=True)
    if list(results) == list(TABLES):
        (RESULTS / "effects.md").write_text(page(results, args.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
