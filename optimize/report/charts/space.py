"""Three objectives at once: a figure in space that the page can turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from optimize.decision.recommendation import Candidate
from optimize.formatting import title_of
from optimize.report.charts.canvas import Drawing, Item, Label, Space, Stroke
from optimize.report.charts.marks import QUIET, axis_title, drawing_order, trial_mark
from optimize.report.charts.scales import Scale, scale_of
from optimize.report.data import Facts

YAW, PITCH, SIZE = 0.65, 0.42, 0.29
"""The first view of a figure in space: yaw and pitch in radians, half its size as a share of the height.

The page's script projects in the same way."""


def in_space(facts: Facts) -> Drawing | None:
    """The first three objectives in space; None if there are fewer."""
    names = list(facts.directions)[:3]
    shown = drawing_order(facts, [c for c in facts.candidates if all(n in c.estimates for n in names)])
    if len(names) < 3 or not shown:
        return None
    title = f"{', '.join(title_of(n) for n in names)} of every measured trial"
    drawing = Drawing("pareto_3d", title, 520, 400, turns=True)
    scales = {n: scale_of([c.estimates[n].value for c in shown], -1, 1, facts.unit(n)) for n in names}
    drawing.add(*_cube(drawing, facts, scales))
    for c in shown:
        if facts.kind(c) not in QUIET:
            drawing.add(*_intervals(drawing, c, facts.kind(c), scales))
    for c in shown:
        place = _place(c, scales)
        drawing.add(trial_mark(facts, c, *projected(place, drawing), space=[place]))
    return drawing


def _intervals(drawing: Drawing, c: Candidate, kind: str, scales: Mapping[str, Scale]) -> list[Stroke]:
    """A foot down to the floor, and the interval along each axis."""
    place = _place(c, scales)
    lines = [_line(drawing, [place, (place[0], place[1], -1.0)], kind, c.number, "faint")]
    for axis, (name, scale) in enumerate(scales.items()):
        e = c.estimates[name]
        ends = [_moved(place, axis, scale.at(v)) for v in (e.low, e.high)]
        lines.append(_line(drawing, ends, kind, c.number, "faint"))
    return lines


def _place(c: Candidate, scales: Mapping[str, Scale]) -> Space:
    x, y, z = (scale.at(c.estimates[name].value) for name, scale in scales.items())
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


_TITLES: list[Space] = [(0.0, -1.6, -1.0), (1.7, 0.0, -1.0), (-1.0, -1.0, 1.15)]
_TICKS: list[tuple[Space, Space]] = [
    ((-1.0, -1.18, -1.0), (1.0, -1.18, -1.0)), ((1.18, -1.0, -1.0), (1.18, 1.0, -1.0)),
    ((-1.0, -1.12, -1.0), (-1.0, -1.12, 1.0)),
]  # fmt: skip
"""Per axis the place of its title, and the line that its first and last tick label lie on."""


def _cube(drawing: Drawing, facts: Facts, scales: Mapping[str, Scale]) -> list[Item]:
    corners = [(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
    edges = [(a, b) for a, b in combinations(corners, 2) if sum(p != q for p, q in zip(a, b, strict=True)) == 1]
    items: list[Item] = [_line(drawing, edge, "grid") for edge in edges]
    for (name, scale), middle, (first, last) in zip(scales.items(), _TITLES, _TICKS, strict=True):
        items.append(_text(drawing, axis_title(facts, name, scale).partition(",")[0], middle, "ink"))
        ticks = scale.ticks(4)
        for value, text in (ticks[0], ticks[-1]):
            part = scale.share(value)
            x, y, z = (a + part * (b - a) for a, b in zip(first, last, strict=True))
            items.append(_text(drawing, text, (x, y, z), "muted"))
    return items


def _text(drawing: Drawing, text: str, place: Space, role: str) -> Label:
    x, y = projected(place, drawing)
    return Label(x, y + 4, text, role, space=(place,))
