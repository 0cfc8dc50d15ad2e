"""What was measured of every trial: pairs of objectives, three at once, and knobs beside objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from objectives import Direction
from optimize.decision.recommendation import Candidate
from optimize.formatting import title_of
from optimize.report.charts.canvas import SHAPES, SIZES, Drawing, Item, Label, Mark, Space, Stroke
from optimize.report.charts.scales import Scale, frame, scale_of
from optimize.report.data import KINDS, Facts, Knob

WIDTH, HEIGHT = 340, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 30.0, 44.0
_QUIET = ("plain", "broken")
_ALL_INTERVALS = 60
"""With more trials than this, only those that matter have their intervals drawn; the others' are a hover away."""
YAW, PITCH, SIZE = 0.65, 0.42, 0.29
"""How a figure in space is first seen: turned and tilted in radians, its half as a share of the height.

The page's script projects in the same way."""


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
    for c in ordered(facts, shown):
        kind = facts.kind(c)
        if kind not in _QUIET or len(shown) <= _ALL_INTERVALS:
            drawing.add(_intervals(c, x, y, across, up, kind))
    for c in ordered(facts, shown):
        drawing.add(point(facts, c, across.at(c.estimates[x].value), up.at(c.estimates[y].value)))
    return drawing


def _extent(facts: Facts, name: str, shown: Sequence[Candidate]) -> list[float]:
    """All values, and the intervals of those that matter as far as they do not squeeze the values together."""
    values = [c.estimates[name].value for c in shown]
    if not values:
        return []
    low, high = min(values), max(values)
    room = 0.5 * (high - low)
    ends = [v for c in shown if facts.kind(c) not in _QUIET for v in (c.estimates[name].low, c.estimates[name].high)]
    return [*values, *(min(max(v, low - room, low / 2), high + room) for v in ends)]


def ordered(facts: Facts, shown: Sequence[Candidate]) -> list[Candidate]:
    """Those that matter last, so that they lie on top."""
    rank = {kind: i for i, kind in enumerate(["broken", "plain", "front", "base", "runner", "pick"])}
    return sorted(shown, key=lambda c: rank[facts.kind(c)])


def point(facts: Facts, c: Candidate, x: float, y: float, space: Sequence[Space] = ()) -> Mark:
    kind = facts.kind(c)
    return Mark(x, y, kind, SHAPES[kind], SIZES[kind], c.number, space=tuple(space))


def axis_title(facts: Facts, name: str, scale: Scale) -> str:
    better = "higher" if facts.directions.get(name) is Direction.MAXIMIZE else "lower"
    unit = f" ({scale.shown_unit})" if scale.shown_unit else ""
    return f"{title_of(name)}{unit}, {better} is better"


def _intervals(c: Candidate, x: str, y: str, across: Scale, up: Scale, kind: str) -> Stroke:
    one, other = c.estimates[x], c.estimates[y]
    px, py = across.at(one.value), up.at(other.value)
    lines = [
        [(across.at(one.low), py), (across.at(one.high), py)],
        [(px, up.at(other.low)), (px, up.at(other.high))],
    ]
    return Stroke(lines, kind, trial=c.number, style="faint")


def _limits(facts: Facts, name: str, scale: Scale, other: Scale) -> list[Item]:
    """A constraint's limit as a dashed line, where it lies within the panel."""
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


# --- three at once ------------------------------------------------------------------------------------------------


def in_space(facts: Facts) -> Drawing | None:
    """The first three objectives in space; None where there are fewer."""
    names = list(facts.directions)[:3]
    shown = [c for c in facts.candidates if all(n in c.estimates for n in names)]
    if len(names) < 3 or not shown:
        return None
    title = f"{', '.join(title_of(n) for n in names)} of every measured trial"
    drawing = Drawing("pareto_3d", title, 520, 400, turns=True)
    scales = [scale_of([c.estimates[n].value for c in shown], -1, 1, facts.unit(n)) for n in names]
    drawing.add(*_cube(drawing, [axis_title(facts, n, s) for n, s in zip(names, scales, strict=True)], scales))
    for c in ordered(facts, shown):
        place = _place(c, names, scales)
        if facts.kind(c) not in _QUIET:
            drawing.add(_line(drawing, [place, (place[0], place[1], -1.0)], facts.kind(c), c.number, "faint"))
            for axis, name in enumerate(names):
                e = c.estimates[name]
                ends = [_moved(place, axis, scales[axis].at(v)) for v in (e.low, e.high)]
                drawing.add(_line(drawing, ends, facts.kind(c), c.number, "faint"))
    for c in ordered(facts, shown):
        place = _place(c, names, scales)
        drawing.add(point(facts, c, *projected(place, drawing), space=[place]))
    return drawing


def _place(c: Candidate, names: Sequence[str], scales: Sequence[Scale]) -> Space:
    x, y, z = (s.at(c.estimates[n].value) for n, s in zip(names, scales, strict=True))
    return x, y, z


def _moved(place: Space, axis: int, value: float) -> Space:
    x, y, z = (value if i == axis else v for i, v in enumerate(place))
    return x, y, z


def projected(place: Space, drawing: Drawing) -> tuple[float, float]:
    """Pixel of a point in space, parallel projection, the third coordinate upwards."""
    x, y, z = place
    right = x * math.cos(YAW) + y * math.sin(YAW)
    away = y * math.cos(YAW) - x * math.sin(YAW)
    size = SIZE * drawing.height
    up = z * math.cos(PITCH) + away * math.sin(PITCH)
    return drawing.width / 2 + size * right, drawing.height / 2 - size * up


def _line(drawing: Drawing, ends: Sequence[Space], role: str, trial: int | None = None, style: str = "") -> Stroke:
    return Stroke([[projected(p, drawing) for p in ends]], role, trial=trial, style=style, space=tuple(ends))


def _cube(drawing: Drawing, titles: Sequence[str], scales: Sequence[Scale]) -> list[Item]:
    corners = [(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
    edges = [(a, b) for a, b in combinations(corners, 2) if sum(p != q for p, q in zip(a, b, strict=True)) == 1]
    items: list[Item] = [_line(drawing, edge, "grid") for edge in edges]
    middles: list[Space] = [(0.0, -1.45, -1.0), (1.45, 0.0, -1.0), (-1.0, -1.0, 1.15)]
    ends: list[tuple[Space, Space]] = [
        ((-1.0, -1.18, -1.0), (1.0, -1.18, -1.0)), ((1.18, -1.0, -1.0), (1.18, 1.0, -1.0)),
        ((-1.0, -1.12, -1.0), (-1.0, -1.12, 1.0)),
    ]  # fmt: skip
    for title, scale, middle, (first, last) in zip(titles, scales, middles, ends, strict=True):
        items.append(_text(drawing, title.partition(",")[0], middle, "ink"))
        ticks = scale.ticks(4)
        for value, text in (ticks[0], ticks[-1]):
            part = scale.share(value)
            x, y, z = (a + part * (b - a) for a, b in zip(first, last, strict=True))
            items.append(_text(drawing, text, (x, y, z), "muted"))
    return items


def _text(drawing: Drawing, text: str, place: Space, role: str) -> Label:
    x, y = projected(place, drawing)
    return Label(x, y + 4, text, role, space=(place,))


# --- knobs beside objectives --------------------------------------------------------------------------------------

_KNOB_TOP, _KNOB_HEIGHT = 40.0, 330.0


def parallel(facts: Facts) -> Drawing:
    """A line per trial through every knob and every objective; better is up."""
    names = [*(k.name for k in facts.knobs), *facts.directions]
    gap = 118.0
    drawing = Drawing("parallel", "Knobs and objectives of every measured trial", gap * len(names), 390)
    axes = Drawing("", "", drawing.width, drawing.height)
    scales: dict[str, Scale] = {}
    for i, name in enumerate(names):
        x = gap * (i + 0.5)
        knob = next((k for k in facts.knobs if k.name == name), None)
        scales[name] = _knob_axis(axes, knob, x) if knob else _objective_axis(axes, facts, name, x)
    knobs: Mapping[str, Knob] = {k.name: k for k in facts.knobs}
    for c in ordered(facts, facts.candidates):
        line = []
        for i, name in enumerate(names):
            value = _axis_value(c, name, knobs)
            if value is not None:
                line.append((gap * (i + 0.5), scales[name].at(value)))
        kind = facts.kind(c)
        width = {"pick": 3.0, "runner": 2.0, "base": 2.0, "front": 1.4}.get(kind, 1.0)
        dash = {"runner": "7 3", "base": "2 3", "broken": "3 4"}.get(kind, "")
        style = "faint" if kind in _QUIET else ""
        drawing.add(Stroke([line], kind, width, dash, c.number, style))
    drawing.add(*axes.items)  # on top of the lines, to be read
    return drawing


def _axis_value(c: Candidate, name: str, knobs: Mapping[str, Knob]) -> float | None:
    if name in c.estimates and name not in knobs:
        return c.estimates[name].value
    value = c.params.get(name)
    if value is None:
        return None
    choices = list(knobs[name].choices)
    return float(choices.index(value)) if choices else float(value)


def _knob_axis(drawing: Drawing, knob: Knob, x: float) -> Scale:
    bottom = _KNOB_TOP + _KNOB_HEIGHT
    if knob.choices:
        last = max(1, len(knob.choices) - 1)
        scale = Scale(-0.08 * last, last * 1.08, bottom, _KNOB_TOP)
        ticks = [(float(i), str(v)) for i, v in enumerate(knob.choices)]
    else:
        scale = scale_of([knob.low, knob.high], bottom, _KNOB_TOP, log=knob.log)
        inside = [(v, text) for v, text in scale.ticks(6) if knob.low <= v <= knob.high]
        ticks = [(v, text) for v, text in inside if not knob.whole or v == round(v)]
    _axis(drawing, x, knob.name, ticks, scale, "")
    return scale


def _objective_axis(drawing: Drawing, facts: Facts, name: str, x: float) -> Scale:
    ends = (_KNOB_TOP + _KNOB_HEIGHT, _KNOB_TOP)
    start, stop = ends if facts.directions[name] is Direction.MAXIMIZE else ends[::-1]
    scale = scale_of([c.estimates[name].value for c in facts.measured_at(name)], start, stop, facts.unit(name))
    _axis(drawing, x, title_of(name), scale.ticks(6), scale, scale.shown_unit)
    return scale


def _axis(drawing: Drawing, x: float, title: str, ticks: Sequence[tuple[float, str]], scale: Scale, unit: str) -> None:
    drawing.add(Stroke([[(x, scale.start), (x, scale.stop)]], "muted"))
    drawing.add(Label(x, 14, title, "ink", size=11.5, bold=True), Label(x, 29, unit, "muted", size=10.5))
    for value, text in ticks:
        drawing.add(Stroke([[(x - 3, scale.at(value)), (x + 3, scale.at(value))]], "muted"))
        drawing.add(Label(x - 7, scale.at(value) + 4, text, "muted", "end", 10.5))


def legend(facts: Facts) -> list[tuple[str, str, int, str]]:
    """(kind, its name, how many, its symbol as SVG) of the kinds there are."""
    found = []
    for kind, name in KINDS.items():
        count = sum(facts.kind(c) == kind for c in facts.candidates)
        if count:
            symbol = Drawing("", name, 18, 18, [Mark(9, 9, kind, SHAPES[kind], SIZES[kind])])
            found.append((kind, name, count, symbol.svg().replace('class="plot"', 'class="key"')))
    return found
