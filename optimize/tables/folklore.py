"""Verdicts on folklore: a claim holds or fails only if an interval supports it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives import Estimate
from optimize.formatting import multiple
from optimize.tables.changes import change_text
from optimize.tables.comparison import Grid
from optimize.tables.spec import Claim, Gain, Point

_NOT_JUDGED = (
    "not judged. The references are the model's own greedy answers, and another answer is not a worse one. A workload "
    "with reference answers can judge it."
)
HOLDS, FAILS, OPEN = "holds here", "fails here", "not enough evidence"


def label(settings: Point) -> str:
    return " ".join(f"{knob}={value}" for knob, value in settings.items())


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one claim for one row.

    Attributes:
        row: The row as text.
        verdict: HOLDS, FAILS or OPEN.
        change: The change of the figure, with its interval.
        metric: The figure.
    """

    row: str
    verdict: str
    change: str
    metric: str


def folklore(grid: Grid) -> list[str]:
    """A sentence on every claim that this part of a table has measurements on."""
    sentences = []
    for claim in grid.part.claims:
        if not (verdicts := _verdicts(grid, claim)):
            continue
        judged = claim.own_answers or not grid.own_answers
        sentences.append(_sentence(claim.says, verdicts) if judged else f"“{claim.says}”: {_NOT_JUDGED}")
    if grid.part.gain is not None and (verdicts := _gain_verdicts(grid, grid.part.gain)):
        sentences.append(_sentence(grid.part.gain.says, verdicts))
    return sentences


def _verdicts(grid: Grid, claim: Claim) -> list[Verdict]:
    rows = list(grid.readings)
    pairs = zip(rows[1:], rows, strict=False) if claim.steps else ((row, rows[0]) for row in rows[1:])
    verdicts = []
    for row, other in pairs:
        change = grid.change(claim.metric, row, other)
        if change is None or not set(claim.exempt).isdisjoint(map(str, grid.rows[row].settings.values())):
            continue
        paired = grid.quality[row].paired.get(other, {}).get(claim.metric) if row in grid.quality else None
        shown = paired.significant if paired is not None else _excludes_1(change)
        name = _values(grid.rows[row].settings)
        where = f"{_values(grid.rows[other].settings)} to {name}" if claim.steps else name
        verdict = OPEN if not shown else HOLDS if (change.value > 1) == claim.rises else FAILS
        verdicts.append(Verdict(where, verdict, change_text(change, paired, inline=True), claim.metric))
    return verdicts


def _excludes_1(change: Estimate) -> bool:
    return change.low > 1 or change.high < 1


def _gain_verdicts(grid: Grid, gain: Gain) -> list[Verdict]:
    """Change of a figure from the second knob's first value to its last, relative to that at the first knob's first."""
    one, other = grid.part.knobs
    rows = {(grid.rows[row].settings[one], grid.rows[row].settings[other]): row for row in grid.readings}
    ones, others = (list(dict.fromkeys(key[i] for key in rows)) for i in (0, 1))
    verdicts = []
    for value in ones[1:]:
        corners = [(value, others[-1]), (value, others[0]), (ones[0], others[-1]), (ones[0], others[0])]
        if len(others) < 2 or not all(corner in rows for corner in corners):
            continue
        weights = dict(zip((rows[c] for c in corners), (1.0, -1.0, -1.0, 1.0), strict=True))
        contrast = grid.contrast(gain.metric, weights)
        if contrast is not None:
            verdict = OPEN if not _excludes_1(contrast) else HOLDS if (contrast.value > 1) == gain.rises else FAILS
            text = f"changes from {other} {others[0]} to {others[-1]} by a factor relative to {ones[0]} of"
            verdicts.append(Verdict(f"{one} {value}", verdict, f"{text} {multiple(contrast)}", gain.metric))
    return verdicts


def _sentence(says: str, verdicts: Sequence[Verdict]) -> str:
    """E.g. “Larger batches lower P99”: fails here for 64 (p99_latency_s +30 %, 95 % CI +20 to +41 %)."""
    groups: Mapping[str, list[Verdict]] = {v: [x for x in verdicts if x.verdict == v] for v in (FAILS, HOLDS, OPEN)}
    parts = []
    for verdict, members in groups.items():
        if members:
            listed = ", ".join(f"{m.row} ({m.metric} {m.change})" for m in members)
            parts.append(f"{verdict} for {listed}")
    return f"“{says}”: {'; '.join(parts)}."


def _values(settings: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in settings.values())
