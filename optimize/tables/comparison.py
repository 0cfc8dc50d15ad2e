"""From measurements in rounds to a table: levels, and changes against the first row. Pure.

The variance of speed comes from the machine, and is estimated over all rows together. The variance of memory comes from
kernels and allocator, and spans orders of magnitude between rows, so each row has its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from objectives import Direction, Estimate
from objectives.segments import Paired
from optimize.config.schema import LEAST_ROUNDS
from optimize.decision.recommendation import Candidate, Rounds
from optimize.tables.spec import Part, Point

Readings = Mapping[int, Mapping[int, Mapping[str, Estimate]]]
"""Row -> round -> metric -> figure."""


@dataclass(frozen=True)
class Row:
    """One configuration of a table.

    Attributes:
        settings: Knob -> value.
        levels: Metric -> figure with its prediction interval; for quality, with its confidence interval over prompts.
        changes: Metric -> ratio to the first row's, within the rounds; empty for the first row.
        paired: Quality metric -> comparison with the first row on common prompts.
        refused: Reason why it has no figures; else empty.
    """

    settings: Point
    levels: Mapping[str, Estimate] = field(default_factory=dict)
    changes: Mapping[str, Estimate] = field(default_factory=dict)
    paired: Mapping[str, Paired] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class Quality:
    """Quality of one row over all of its rounds: each score on all answers, and compared with other rows.

    Attributes:
        levels: Metric -> figure.
        paired: Other row -> metric -> comparison on common prompts.
    """

    levels: Mapping[str, Estimate]
    paired: Mapping[int, Mapping[str, Paired]]


@dataclass(frozen=True)
class Grid:
    """One measured part of a table.

    Attributes:
        part: Its knobs, and the claims about them.
        rows: In the order of their values.
        readings: Row -> figures per round, of the rows with figures and the rounds that all of them have.
        quality: Row -> its quality; empty if answers cannot be scored.
        own_answers: Whether it is judged against the unquantized model's own greedy answers.
    """

    part: Part
    rows: Sequence[Row]
    readings: Mapping[int, Sequence[Mapping[str, Estimate]]]
    quality: Mapping[int, Quality]
    own_answers: bool = False

    @property
    def rounds(self) -> int:
        return len(next(iter(self.readings.values()), ()))

    def change(self, metric: str, row: int, other: int) -> Estimate | None:
        """Ratio of one row's figure to another's; None unless both have it."""
        if metric in self.quality.get(row, _NO_QUALITY).levels:
            paired = self.quality[row].paired.get(other, {}).get(metric)
            return None if paired is None else paired.ratio
        return _ratio(_common(self.readings, metric), metric, row, other)

    def contrast(self, metric: str, weights: Mapping[int, float]) -> Estimate | None:
        """exp of a weighted sum of the logarithms of rows' figures; None unless all of them have it."""
        having = _common(self.readings, metric)
        if not weights.keys() <= having.keys() or not _positive(having, metric):
            return None
        return _rounds(having, next(iter(weights))).contrast(metric, weights)


_NO_QUALITY = Quality({}, {})
_BY_ITSELF = "bytes"
"""Unit of figures whose variance is estimated per row."""
_ROUNDING = 1e-9


def whole(readings: Readings) -> tuple[dict[int, list[Mapping[str, Estimate]]], set[int]]:
    """The rounds that all rows have.

    Returns:
        (row -> its figures in each of them, rows with fewer rounds than two, which are left out).
    """
    eligible = {row for row, rounds in readings.items() if len(rounds) >= LEAST_ROUNDS}
    common = sorted(set.intersection(*(set(readings[row]) for row in eligible))) if eligible else []
    if len(common) < LEAST_ROUNDS:
        return {}, set(readings)
    return {row: [readings[row][r] for r in common] for row in sorted(eligible)}, set(readings) - eligible


def grid_of(
    part: Part, points: Sequence[Point], readings: Readings, quality: Mapping[int, Quality], troubles: Mapping[int, str]
) -> Grid:
    """The grid of these measurements.

    Args:
        part: The part of the table.
        points: Its rows.
        readings: Its measurements.
        quality: Row -> quality, which is scored over all rounds.
        troubles: Row -> reason of a refusal or of its last failure.
    """
    rounds, few = whole(readings)
    first = next(iter(rounds), None)
    rows = []
    for number, point in enumerate(points):
        if number not in rounds:
            why = [f"measured in fewer than {LEAST_ROUNDS} rounds"] * (number in few)
            rows.append(Row(point, refused="; ".join([*why, troubles.get(number, "")]).strip("; ") or "not measured"))
            continue
        own = quality.get(number, _NO_QUALITY)
        paired = own.paired.get(first, {}) if first is not None and first != number else {}
        levels = _levels(rounds, number) | dict(own.levels)
        changes = {m: c for m in levels if (c := _ratio(_common(rounds, m), m, number, first)) and m not in own.levels}
        changes |= {m: p.ratio for m, p in paired.items() if p.ratio is not None}
        rows.append(Row(point, levels, {} if number == first else changes, paired))
    return Grid(part, rows, rounds, quality)


def _common(readings: Mapping[int, Sequence[Mapping[str, Estimate]]], metric: str) -> dict[int, Any]:
    """The rows that have a metric in every round."""
    return {row: rounds for row, rounds in readings.items() if all(metric in r for r in rounds)}


def _positive(readings: Mapping[int, Sequence[Mapping[str, Estimate]]], metric: str) -> bool:
    return all(r[metric].value > 0 for rounds in readings.values() for r in rounds)


def _levels(rounds: Mapping[int, Sequence[Mapping[str, Estimate]]], row: int) -> dict[str, Estimate]:
    together, alone = _rounds(rounds, row).levels(row), _rounds({row: rounds[row]}, row).levels(row)
    return {m: _exact(alone[m] if e.unit == _BY_ITSELF else e) for m, e in together.items()}


def _exact(estimate: Estimate) -> Estimate:
    """The estimate without an interval that is rounding error alone."""
    if estimate.high - estimate.low > _ROUNDING * abs(estimate.value):
        return estimate
    value = round(estimate.value, 9)
    return Estimate(value, value, value, estimate.n, estimate.unit)


def _rounds(readings: Mapping[int, Sequence[Mapping[str, Estimate]]], first: int) -> Rounds:
    directions = {name: Direction.MAXIMIZE for rounds in readings.values() for r in rounds for name in r}
    return Rounds(readings, first, directions, {})


def _ratio(
    having: Mapping[int, Sequence[Mapping[str, Estimate]]], metric: str, row: int, other: int | None
) -> Estimate | None:
    if other is None or row == other or not {row, other} <= having.keys():
        return None
    if having[row][0][metric].unit == _BY_ITSELF:
        having = {row: having[row], other: having[other]}
    ratio = _rounds(having, other).gain(Candidate(row, {}, {}, True), metric)
    return _exact(ratio) if ratio.value > 0 and math.isfinite(ratio.value) else None
