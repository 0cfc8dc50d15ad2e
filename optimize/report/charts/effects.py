"""What the knobs do: for each objective, the default's figure with the effect of each change."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.formatting import shown_value, title_of
from optimize.report.charts.canvas import Drawing, Label, Mark, Stroke
from optimize.report.charts.marks import WIDTH, axis_title
from optimize.report.charts.scales import Scale, scale_of
from optimize.report.data import Facts
from optimize.report.effects import Effect

_ROW, _SHOWN, _LEFT, _LETTERS = 20.0, 10, 150, 20


def drawings(facts: Facts) -> list[Drawing]:
    """Per objective: where the default lies, and where each change alone moves it, with its interval."""
    names = dict.fromkeys(e.figure for e in facts.effects)
    alone = {name: [e for e in facts.effects if e.figure == name and len(e.new) == 1][:_SHOWN] for name in names}
    return [_drawn(facts, name, effects) for name, effects in alone.items() if effects]


def _drawn(facts: Facts, name: str, effects: Sequence[Effect]) -> Drawing:
    bottom = 36 + _ROW * len(effects)
    drawing = Drawing(f"effects_{name}", f"What the knobs do to {title_of(name)}", WIDTH, bottom + 20)
    ends = [e.at(end) for e in effects for end in ("low", "high")]
    scale = scale_of([*ends, effects[0].reference], _LEFT, WIDTH - 14, effects[0].unit)
    drawing.add(Label(4, 14, axis_title(facts, name, scale), "ink", "start"))
    for value, text in scale.ticks(4):
        drawing.add(Stroke([[(scale.at(value), 26), (scale.at(value), bottom)]], "grid"))
        drawing.add(Label(scale.at(value), bottom + 15, text))
    default = scale.at(effects[0].reference)
    drawing.add(Stroke([[(default, 26), (default, bottom)]], "base", 1.2, "2 3"))
    for row, effect in enumerate(effects):
        _row(drawing, effect, scale, 32 + _ROW * (row + 0.5))
    return drawing


def _row(drawing: Drawing, effect: Effect, scale: Scale, y: float) -> None:
    ((knob, value),) = effect.new.items()
    drawing.add(Label(_LEFT - 7, y + 4, label_of(knob, shown_value(value)), "ink", "end", 10.5))
    drawing.add(Stroke([[(scale.at(effect.at("low")), y), (scale.at(effect.at("high")), y)]], "strong", 2.2))
    drawing.add(Mark(scale.at(effect.at()), y, "strong", "circle", 4.5))


def label_of(knob: str, value: str) -> str:
    """A change as it stands beside its mark; a long one loses its beginning, for rows differ in the value."""
    text = f"{knob} {value}"
    return text if len(text) <= _LETTERS else f"…{text[1 - _LETTERS :]}"
