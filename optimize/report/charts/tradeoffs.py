"""Pairs of objectives of every measured trial, with their intervals and the limits of the constraints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from optimize.decision.recommendation import Candidate
from optimize.formatting import title_of
from optimize.report.charts.canvas import Drawing, Item, Label, Stroke
from optimize.report.charts.marks import HEIGHT, QUIET, WIDTH, axis_title, drawing_order, trial_mark
from optimize.report.charts.scales import Scale, frame, scale_of
from optimize.report.data import Facts

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 30.0, 44.0
_ALL_INTERVALS = 60
"""With more trials than this, only the important ones have their intervals drawn; the others' are a hover away."""


def pairs(facts: Facts) -> list[Drawing]:
    """One panel per pair of objectives."""
    return [_pair(facts, x, y) for x, y in combinations(facts.directions, 2)]


def _pair(facts: Facts, x: str, y: str) -> Drawing:
    shown = [c for c in facts.candidates if x in c.estimates and y in c.estimates]
    drawing = Drawing(f"pareto_{x}_{y}", f"{title_of(y)} over {title_of(x)} of every measured trial", WIDTH, HEIGHT)
    across = scale_of(_extent(facts, x, shown), _LEFT, WIDTH - _RIGHT, facts.unit(x))
    up = scale_of(_extent(facts, y, shown), HEIGHT - _BOTTOM, _TOP, facts.unit(y))
    frame(drawing, across, up, axis_title(facts, x, across), axis_title(facts, y, up))
    drawing.add(*_limits(facts, x, across, up), *_limits(facts, y, up, across))
    for c in drawing_order(facts, shown):
        kind = facts.kind(c)
        if kind not in QUIET or len(shown) <= _ALL_INTERVALS:
            drawing.add(_intervals(c, x, y, across, up, kind))
    for c in drawing_order(facts, shown):
        drawing.add(trial_mark(facts, c, across.at(c.estimates[x].value), up.at(c.estimates[y].value)))
    return drawing


def _extent(facts: Facts, name: str, shown: Sequence[Candidate]) -> list[float]:
    """All values, and the intervals of the important trials as far as they do not squeeze the values together."""
    values = [c.estimates[name].value for c in shown]
    if not values:
        return []
    low, high = min(values), max(values)
    room = 0.5 * (high - low)
    ends = [v for c in shown if facts.kind(c) not in QUIET for v in (c.estimates[name].low, c.estimates[name].high)]
    return [*values, *(min(max(v, low - room, low / 2), high + room) for v in ends)]


def _intervals(c: Candidate, x: str, y: str, across: Scale, up: Scale, kind: str) -> Stroke:
    one, other = c.estimates[x], c.estimates[y]
    px, py = across.at(one.value), up.at(other.value)
    lines = [
        [(across.at(one.low), py), (across.at(one.high), py)],
        [(px, up.at(other.low)), (px, up.at(other.high))],
    ]
    return Stroke(lines, kind, trial=c.number, style="faint")


def _limits(facts: Facts, name: str, scale: Scale, other: Scale) -> list[Item]:
    """A constraint's limit as a dashed line, if it lies within the panel."""
    items: list[Item] = []
    base = facts.baseline.estimates.get(name) if facts.baseline else None
    for limit in facts.limits:
        if limit.metric != name or (limit.relative and base is None):
            continue
        value = limit.value * base.value if limit.relative and base else limit.value
        if scale.low < value < scale.high:
            items += _limit_line(scale, other, value)
    return items


def _limit_line(scale: Scale, other: Scale, value: float) -> list[Item]:
    at, upright = scale.at(value), scale.start < scale.stop
    ends = [(at, other.start), (at, other.stop)] if upright else [(other.start, at), (other.stop, at)]
    right = at > (scale.start + scale.stop) / 2
    text = Label(at + (-4 if right else 4), other.stop + 10, "limit", "broken", "end" if right else "start", 10)
    if not upright:
        text = Label(other.stop - 2, at - 4, "limit", "broken", "end", 10)
    return [Stroke([ends], "broken", 1.2, "4 3"), text]
