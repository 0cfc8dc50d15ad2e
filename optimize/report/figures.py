"""Plotly figures that open without a network: the script is part of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from objectives import Direction
from optimize.decision.recommendation import Candidate
from optimize.files import replacing
from optimize.formatting import figure, shown_value, stored_unit, title_of
from optimize.report.charts.canvas import LIGHT
from optimize.report.data import KINDS

_SYMBOLS = {"pick": "star", "front": "circle", "plain": "circle", "broken": "x", "base": "diamond"}
_SIZES = {"pick": 15, "front": 9, "plain": 7, "broken": 8, "base": 12}


def pareto_figure(
    candidates: Sequence[Candidate],
    front: Sequence[int],
    pick: int | None,
    directions: Mapping[str, Direction],
) -> go.Figure:
    """All pairs of objectives, each measured trial a point with its intervals.

    Args:
        candidates: Measured trials.
        front: Numbers of the non-dominated feasible ones.
        pick: Number of the recommended one.
        directions: Objective -> direction.
    """
    pairs = list(combinations(directions, 2)) or [(next(iter(directions)),) * 2]
    columns = min(2, len(pairs))  # the figure is also shown in places half a screen wide
    rows = -(-len(pairs) // columns)
    drawing = make_subplots(rows=rows, cols=columns, horizontal_spacing=0.16, vertical_spacing=0.32 / (rows + 1))
    groups = _groups(candidates, set(front), pick)
    for place, (x, y) in enumerate(pairs):
        row, column = place // columns + 1, place % columns + 1
        for kind, members in groups.items():
            if members:
                drawing.add_trace(_points(kind, members, (x, y), legend=place == 0), row=row, col=column)
    above = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "font": {"size": 11}}
    titles = {name: _axis_title(name, direction, candidates) for name, direction in directions.items()}
    drawing.update_layout(
        template="plotly_white", height=340 * rows + 110, margin={"t": 90, "l": 60, "r": 20},
        legend={**above, "title": {"text": "Measured trials, 95 % intervals", "side": "top"}},
        **_axes(pairs, titles),
    )  # fmt: skip
    return drawing


def _axes(pairs: Sequence[tuple[str, str]], titles: Mapping[str, str]) -> dict[str, Any]:
    """The axes of all subplots by Plotly's names (xaxis, yaxis, xaxis2, ...): set one by one, they take longer."""
    style = {"font": {"size": 11}, "standoff": 4}
    return {
        f"{side}axis{place if place > 1 else ''}": {"title": {"text": titles[name], **style}}
        for place, pair in enumerate(pairs, 1)
        for side, name in zip("xy", pair, strict=True)
    }


def write_html(drawing: go.Figure, path: Path) -> Path:
    """Write a figure as one file that needs no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        drawing.write_html(partial, include_plotlyjs=True, full_html=True)
    return path


def _groups(candidates: Sequence[Candidate], front: set[int], pick: int | None) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {kind: [] for kind in reversed(_SYMBOLS)}
    for c in candidates:
        kind = "plain"
        if c.number == pick:
            kind = "pick"
        elif c.baseline:
            kind = "base"
        elif not c.feasible:
            kind = "broken"
        elif c.number in front:
            kind = "front"
        groups[kind].append(c)
    return groups


def _points(kind: str, members: Sequence[Candidate], axes: tuple[str, str], legend: bool) -> go.Scatter:
    x, y = axes
    return go.Scatter(
        x=[c.estimates[x].value for c in members],
        y=[c.estimates[y].value for c in members],
        error_x=_errors(members, x),
        error_y=_errors(members, y),
        mode="markers",
        name=KINDS[kind],
        legendgroup=kind,
        showlegend=legend,
        marker={"color": LIGHT[kind], "symbol": _SYMBOLS[kind], "size": _SIZES[kind]},
        text=[_hover(c) for c in members],
        hovertemplate="%{text}<extra></extra>",
    )


def _errors(members: Sequence[Candidate], name: str) -> dict[str, Any]:
    estimates = [c.estimates[name] for c in members]
    return {
        "type": "data", "array": [e.high - e.value for e in estimates],
        "arrayminus": [e.value - e.low for e in estimates], "thickness": 1, "width": 2,
    }  # fmt: skip


def _hover(candidate: Candidate) -> str:
    settings = [f"{knob} = {shown_value(value)}" for knob, value in candidate.settings.items()]
    figures = [f"{title_of(name)}: {figure(e)}" for name, e in candidate.estimates.items()]
    return "<br>".join([f"<b>trial {candidate.number}</b>", *settings, "", *figures])


def _axis_title(name: str, direction: Direction, candidates: Sequence[Candidate]) -> str:
    """The axis shows values as they are stored, e.g. bytes, so the unit is the stored one."""
    unit = next((c.estimates[name].unit for c in candidates if name in c.estimates), "")
    shown = f" ({stored_unit(unit)})" if stored_unit(unit) else ""
    return f"{title_of(name)}{shown}, {'higher' if direction is Direction.MAXIMIZE else 'lower'} is better"
