"""Parallel coordinates: a line per trial through every knob and every objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from objectives import Direction
from optimize.decision.recommendation import Candidate
from optimize.formatting import title_of
from optimize.report.charts.canvas import Drawing, Label, Point, Stroke
from optimize.report.charts.marks import QUIET, drawing_order
from optimize.report.charts.scales import Scale, scale_of
from optimize.report.data import Facts, Knob

_TOP, _HEIGHT, _GAP = 40.0, 330.0, 118.0
_WIDTHS = {"pick": 3.0, "runner": 2.0, "base": 2.0, "front": 1.4}
_DASHES = {"runner": "7 3", "base": "2 3", "broken": "3 4"}


def parallel(facts: Facts) -> Drawing:
    """A line per trial through every knob and every objective; better is up."""
    knobs: Mapping[str, Knob] = {k.name: k for k in facts.knobs}
    names = [*knobs, *(name for name in facts.directions if name not in knobs)]
    places = {name: _GAP * (i + 0.5) for i, name in enumerate(names)}
    drawing = Drawing("parallel", "Knobs and objectives of every measured trial", _GAP * len(names), 390)
    axes = Drawing("", "", drawing.width, drawing.height)
    scales = {
        name: _knob_axis(axes, knobs[name], x) if name in knobs else _objective_axis(axes, facts, name, x)
        for name, x in places.items()
    }
    for c in drawing_order(facts, facts.candidates):
        values = {name: _axis_value(c, name, knobs) for name in names}
        line = [(places[name], scales[name].at(value)) for name, value in values.items() if value is not None]
        drawing.add(_trial_line(facts.kind(c), c.number, line))
    drawing.add(*axes.items)  # on top of the lines, so that their labels stay legible
    return drawing


def _trial_line(kind: str, trial: int, line: Sequence[Point]) -> Stroke:
    return Stroke([line], kind, _WIDTHS.get(kind, 1.0), _DASHES.get(kind, ""), trial, "faint" if kind in QUIET else "")


def _axis_value(c: Candidate, name: str, knobs: Mapping[str, Knob]) -> float | None:
    if name in c.estimates and name not in knobs:
        return c.estimates[name].value
    value = c.params.get(name)
    if value is None:
        return None
    choices = list(knobs[name].choices)
    return float(choices.index(value)) if choices else float(value)


def _knob_axis(drawing: Drawing, knob: Knob, x: float) -> Scale:
    bottom = _TOP + _HEIGHT
    if knob.choices:
        last = max(1, len(knob.choices) - 1)
        scale = Scale(-0.08 * last, last * 1.08, bottom, _TOP)
        ticks = [(float(i), str(v)) for i, v in enumerate(knob.choices)]
    else:
        scale = scale_of([knob.low, knob.high], bottom, _TOP, log=knob.log)
        inside = [(v, text) for v, text in scale.ticks(6) if knob.low <= v <= knob.high]
        ticks = [(v, text) for v, text in inside if not knob.whole or v == round(v)]
    _axis(drawing, x, knob.name, ticks, scale, "")
    return scale


def _objective_axis(drawing: Drawing, facts: Facts, name: str, x: float) -> Scale:
    ends = (_TOP + _HEIGHT, _TOP)
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
