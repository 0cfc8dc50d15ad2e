"""A small picture of a study's trials: its first two objectives, the Pareto front, the defaults, the recommendation."""

from __future__ import annotations

from collections.abc import Sequence

from objectives import Direction
from optimize.formatting import title_of
from optimize.outcome import Role
from optimize.pareto import front
from optimize.report.charts.canvas import SHAPES, SIZES, Drawing, Mark
from optimize.report.charts.scales import Scale, frame, scale_of
from optimize.ui.studies import Entry, Trial

NAMES = {"pick": "recommended", "base": "vLLM’s defaults", "front": "Pareto front", "plain": "dominated"}
"""Kinds of trials and their names, the topmost first; those that violate a constraint are left out."""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320.0, 220.0, 46.0, 10.0, 28.0, 40.0
_FEWEST = 2


def picture(entry: Entry) -> Drawing | None:
    """The picture; None with less than two measured trials or objectives."""
    names = list(entry.directions)[:2]
    kinds = kinds_of(entry)
    if len(names) < _FEWEST or len(kinds) < _FEWEST:
        return None
    shown = {trial.number: trial for trial in entry.trials if trial.number in kinds}
    across = _scale(list(shown.values()), names[0], _LEFT, _WIDTH - _RIGHT)
    up = _scale(list(shown.values()), names[1], _HEIGHT - _BOTTOM, _TOP)
    drawing = Drawing(entry.name, f"{title_of(names[1])} over {title_of(names[0])} of the trials", _WIDTH, _HEIGHT)
    frame(drawing, across, up, _axis(entry, names[0], across), _axis(entry, names[1], up))
    for number, kind in sorted(kinds.items(), key=lambda item: -list(NAMES).index(item[1])):
        x, y = (shown[number].estimates[name].value for name in names)
        drawing.add(Mark(across.at(x), up.at(y), kind, SHAPES[kind], SIZES[kind]))
    return drawing


def kinds_of(entry: Entry) -> dict[int, str]:
    """Trial -> its kind, one of NAMES, of the search's feasible trials."""
    measured = [trial for trial in entry.trials if _is_shown(trial, entry)]
    on_front = {measured[i].number for i in front([trial.estimates for trial in measured], entry.directions)}
    return {trial.number: _kind(trial, entry, on_front) for trial in measured}


def key(kind: str) -> str:
    """The symbol of a kind as SVG, for a legend."""
    symbol = Drawing(kind, NAMES[kind], 16, 16, [Mark(8, 8, kind, SHAPES[kind], min(SIZES[kind], 6.5))])
    return symbol.svg().replace('class="plot"', 'class="key"')


def _scale(shown: Sequence[Trial], name: str, start: float, stop: float) -> Scale:
    figures = [trial.estimates[name] for trial in shown]
    return scale_of([figure.value for figure in figures], start, stop, figures[0].unit)


def _is_shown(trial: Trial, entry: Entry) -> bool:
    searched = trial.role in (Role.BASELINE, Role.SEARCH) and trial.feasible
    return searched and entry.directions.keys() <= trial.estimates.keys()


def _kind(trial: Trial, entry: Entry, on_front: set[int]) -> str:
    if entry.result is not None and trial.number == entry.result.number:
        return "pick"
    if trial.baseline:
        return "base"
    return "front" if trial.number in on_front else "plain"


def _axis(entry: Entry, name: str, scale: Scale) -> str:
    unit = f" ({scale.shown_unit})" if scale.shown_unit else ""
    better = "higher" if entry.directions[name] is Direction.MAXIMIZE else "lower"
    return f"{title_of(name)}{unit}, {better} is better"
