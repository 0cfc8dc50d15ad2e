"""The table of live measurements as a problem: a reading is one of the two measurements of a point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ground_truth import (
    CHAT_P99_MAX_S,
    OBJECTIVES,
    Row,
    figures_of,
    is_measured,
    is_refused,
    is_too_slow,
    limits,
    measuring_s,
    pooled,
    table,
)
from benchmarks.live_space import SATURATION, SPACE, key_at, params_of
from benchmarks.searching.problem import Objective, Point, Reading, Space
from benchmarks.tabular import BASELINE
from objectives import Estimate
from optimize.decision.constraints import broken_without_figures, violations
from optimize.search.encoding import Array


class LiveTable:
    """The chat study of the demo. The quality of a reading is that of all answers so far to the same settings."""

    name = "live table"
    space: Space = SPACE
    objectives: Mapping[str, Objective] = {name: Objective(*kind) for name, kind in OBJECTIVES.items()}
    engine_knobs = frozenset(SPACE) - {"beam_size"}
    saturation: Mapping[str, float] = SATURATION

    def __init__(self) -> None:
        self._table, self._limits = table(CHAT_P99_MAX_S), limits(CHAT_P99_MAX_S)
        self.start: Point = params_of(BASELINE)
        self.start_s = self._table.start_s

    def canonical(self, point: Mapping[str, Any]) -> Point:
        return dict(point)

    def draw(self, point: Point, earlier: Sequence[Reading], rng: np.random.Generator) -> Reading:
        rows = self._table.rows[key_at(point)]
        row = rows[int(rng.integers(len(rows)))]
        if not is_measured(row):
            broken = broken_without_figures(self._limits, is_too_slow(row))
            names = violations(self._limits, self._figures(earlier[0].source, earlier), None) if earlier else broken
            return Reading(None, dict.fromkeys(names, 0.0) | broken, measuring_s(row), is_refused(row), row)
        figures = self._figures(row, earlier)
        baseline = self._figures(earlier[0].source, earlier) if earlier else figures
        broken = violations(self._limits, figures, baseline)
        return Reading(tuple(figures[n].value for n in OBJECTIVES), broken, measuring_s(row), False, row)

    def _figures(self, row: Row, earlier: Sequence[Reading]) -> dict[str, Estimate]:
        return figures_of(row, pooled([*(r.source for r in earlier if r.values is not None), row]))

    def figures(self, points: Sequence[Point]) -> Array:
        """By the means of the two measurements."""
        rows = [self._table.truth.get(key_at(p), {}) for p in points]
        return np.array([[row.get(name, np.nan) for name in self.objectives] for row in rows])

    def share(self, points: Iterable[Point]) -> float:
        return self._table.hypervolume(key_at(p) for p in points) / self._table.best
