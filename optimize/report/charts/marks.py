"""What the figures of a study's trials share: their size, the marks of trials, axis titles and the legend."""

from __future__ import annotations

from collections.abc import Sequence

from objectives import Direction
from optimize.decision.recommendation import Candidate
from optimize.formatting import title_of
from optimize.report.charts.canvas import SHAPES, SIZES, Drawing, Mark, Space
from optimize.report.charts.scales import Scale
from optimize.report.data import KINDS, Facts

WIDTH, HEIGHT = 340, 300
QUIET = ("plain", "broken")
"""Kinds of trials that stay in the background."""
_DRAWING_ORDER = ("broken", "plain", "front", "base", "runner", "pick")


def drawing_order(facts: Facts, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The most important trials last, so that they lie on top."""
    return sorted(candidates, key=lambda c: _DRAWING_ORDER.index(facts.kind(c)))


def trial_mark(facts: Facts, c: Candidate, x: float, y: float, space: Sequence[Space] = ()) -> Mark:
    kind = facts.kind(c)
    return Mark(x, y, kind, SHAPES[kind], SIZES[kind], c.number, space=tuple(space))


def axis_title(facts: Facts, name: str, scale: Scale) -> str:
    better = "higher" if facts.directions.get(name) is Direction.MAXIMIZE else "lower"
    unit = f" ({scale.shown_unit})" if scale.shown_unit else ""
    return f"{title_of(name)}{unit}, {better} is better"


def legend_entries(facts: Facts) -> list[tuple[str, str, int, str]]:
    """(kind, its name, its number of trials, its symbol as SVG) of each kind that the study has."""
    entries = []
    for kind, name in KINDS.items():
        count = sum(facts.kind(c) == kind for c in facts.candidates)
        if count:
            symbol = Drawing("", name, 18, 18, [Mark(9, 9, kind, SHAPES[kind], SIZES[kind])])
            entries.append((kind, name, count, symbol.svg().replace('class="plot"', 'class="key"')))
    return entries
