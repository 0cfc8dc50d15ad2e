"""Changes as text, and what folklore makes of them: a sentence only where an interval supports it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives import Estimate
from objectives.segments import Paired
from optimize.tables.comparison import Grid
from optimize.tables.spec import Claim, Gain, Point

HOLDS, FAILS, OPEN = "holds here", "fails here", "not enough evidence"
_TIMES_FROM = 2.0


def label(settings: Point) -> str:
    return " ".join(f"{knob}={value}" for knob, value in settings.items())


def change_text(change: Estimate | None, paired: Paired | None = None) -> str:
    """A change against the first row: of quality, the difference and its test, else a share or a multiple."""
    if paired is not None:
        test = f"p = {paired.p:.2g}, {'significant' if paired.significant else 'not significant'}"
        gap = paired.difference
        if change is not None and gap.unit == "":  # perplexity: people compare it as a ratio
            return f"{_times(change)}; {test}"
        return f"{_signed(gap.value, gap.low, gap.high)}; {test}"
    return "" if change is None else times(change)


def times(change: Estimate) -> str:
    """A ratio as a percentage of change; far ones as a multiple."""
    if change.low == change.value == change.high == 1:
        return "unchanged"
    if not 1 / _TIMES_FROM < change.value < _TIMES_FROM:
        return _times(change)
    return f"{_signed(*(100 * (x - 1) for x in (change.value, change.low, change.high)))} %"


def _times(change: Estimate) -> str:
    digits = _digits(change.value, change.high - change.low)
    interval = f" [{change.low:.{digits}f}, {change.high:.{digits}f}]" if change.high > change.low else ""
    return f"× {change.value:.{digits}f}{interval}"


def _signed(value: float, low: float, high: float) -> str:
    digits = _digits(value, high - low)
    interval = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if high > low else ""
    shown = f"{value:+.{digits}f}{interval}"
    return shown.replace("-", "−")


def _digits(value: float, width: float) -> int:
    """Decimals: two digits of the interval's width, three of an exact value."""
    scale, keep = (width, 2) if width > 0 else (abs(value), 3)
    return 1 if scale == 0 or not math.isfinite(scale) else min(4, max(0, keep - 1 - math.floor(math.log10(scale))))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one claim, for one row.

    Attributes:
        row: The row, in words.
        verdict: HOLDS, FAILS or OPEN.
        change: The figure's change.
        metric: The figure.
    """

    row: str
    verdict: str
    change: str
    metric: str


def folklore(grid: Grid) -> list[str]:
    """A sentence on every claim that this part of a table can speak to."""
    found = []
    for claim in grid.part.claims:
        if verdicts := _verdicts(grid, claim):
            found.append(_sentence(claim.says, verdicts))
    if grid.part.gain is not None and (verdicts := _gain_verdicts(grid, grid.part.gain)):
        found.append(_sentence(grid.part.gain.says, verdicts))
    return found


def _verdicts(grid: Grid, claim: Claim) -> list[Verdict]:
    rows = list(grid.readings)
    pairs = zip(rows[1:], rows, strict=False) if claim.steps else ((row, rows[0]) for row in rows[1:])
    found = []
    for row, other in pairs:
        change = grid.change(claim.metric, row, other)
        if change is None:
            continue
        paired = grid.quality[row].paired.get(other, {}).get(claim.metric) if row in grid.quality else None
        sure = paired.significant if paired is not None else _sure(change)
        name = _values(grid.rows[row].settings)
        where = f"{_values(grid.rows[other].settings)} to {name}" if claim.steps else name
        verdict = OPEN if not sure else HOLDS if (change.value > 1) == claim.rises else FAILS
        found.append(Verdict(where, verdict, change_text(change, paired), claim.metric))
    return found


def _sure(change: Estimate) -> bool:
    return change.low > 1 or change.high < 1


def _gain_verdicts(grid: Grid, gain: Gain) -> list[Verdict]:
    """How much more the second knob, from its first to its last value, does for a figure than beside the first row."""
    one, other = grid.part.knobs
    place = {(grid.rows[row].settings[one], grid.rows[row].settings[other]): row for row in grid.readings}
    ones, others = (list(dict.fromkeys(key[i] for key in place)) for i in (0, 1))
    found = []
    for value in ones[1:]:
        corners = [(value, others[-1]), (value, others[0]), (ones[0], others[-1]), (ones[0], others[0])]
        if len(others) < 2 or not all(corner in place for corner in corners):
            continue
        weights = dict(zip((place[c] for c in corners), (1.0, -1.0, -1.0, 1.0), strict=True))
        more = grid.contrast(gain.metric, weights)
        if more is not None:
            verdict = OPEN if not _sure(more) else HOLDS if (more.value > 1) == gain.rises else FAILS
            text = f"from {other} {others[0]} to {others[-1]} it changes {_times(more)} as much as with {ones[0]}"
            found.append(Verdict(f"{one} {value}", verdict, text, gain.metric))
    return found


def _sentence(says: str, verdicts: Sequence[Verdict]) -> str:
    """E.g. "Larger batches lower P99" fails here for 64 (p99_latency_s +30 % [+20, +41])."""
    groups: Mapping[str, list[Verdict]] = {v: [x for x in verdicts if x.verdict == v] for v in (FAILS, HOLDS, OPEN)}
    parts = []
    for verdict, members in groups.items():
        if members:
            listed = ", ".join(f"{m.row} ({m.metric} {m.change})" for m in members)
            parts.append(f"{verdict} for {listed}")
    return f"“{says}”: {'; '.join(parts)}."


def _values(settings: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in settings.values())
