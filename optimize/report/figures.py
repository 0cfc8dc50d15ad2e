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
from optimize.formatting import figure

# Okabe and Ito's palette: told apart by colour-blind readers too.
_STYLES = {
    "recommended": {"color": "#D55E00", "symbol": "star", "size": 15},
    "Pareto front": {"color": "#0072B2", "symbol": "circle", "size": 9},
    "dominated": {"color": "#999999", "symbol": "circle", "size": 7},
    "breaks a constraint": {"color": "#CC79A7", "symbol": "x", "size": 8},
    "vLLM defaults": {"color": "#009E73", "symbol": "diamond", "size": 12},
}


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
    drawn = make_subplots(rows=rows, cols=columns, horizontal_spacing=0.16, vertical_spacing=0.32 / (rows + 1))
    groups = _groups(candidates, set(front), pick)
    for place, (x, y) in enumerate(pairs):
        row, column = place // columns + 1, place % columns + 1
        for name, members in groups.items():
            if members:
                drawn.add_trace(_points(name, members, x, y, legend=place == 0), row=row, col=column)
        for update, axis in ((drawn.update_xaxes, x), (drawn.update_yaxes, y)):
            title = _axis_title(axis, directions[axis], candidates)
            update(title={"text": title, "font": {"size": 11}, "standoff": 4}, row=row, col=column)
    above = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "font": {"size": 11}}
    drawn.update_layout(
        template="plotly_white", height=340 * rows + 110, margin={"t": 90, "l": 60, "r": 20},
        legend={**above, "title": {"text": "Measured trials, 95 % intervals", "side": "top"}},
    )  # fmt: skip
    return drawn


def write_html(drawn: go.Figure, path: Path) -> Path:
    """Write a figure as one file that needs nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.write_html(path, include_plotlyjs=True, full_html=True)
    return path


def _groups(candidates: Sequence[Candidate], front: set[int], pick: int | None) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {name: [] for name in reversed(_STYLES)}
    for c in candidates:
        name = "dominated"
        if c.number == pick:
            name = "recommended"
        elif c.baseline:
            name = "vLLM defaults"
        elif not c.feasible:
            name = "breaks a constraint"
        elif c.number in front:
            name = "Pareto front"
        groups[name].append(c)
    return groups


def _points(name: str, members: Sequence[Candidate], x: str, y: str, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=[c.estimates[x].value for c in members],
        y=[c.estimates[y].value for c in members],
        error_x=_errors(members, x),
        error_y=_errors(members, y),
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=legend,
        marker=_STYLES[name],
        text=[_hover(c) for c in members],
        hovertemplate="%{text}<extra></extra>",
    )


def _errors(members: Sequence[Candidate], name: str) -> dict[str, Any]:
    found = [c.estimates[name] for c in members]
    return {
        "type": "data", "array": [e.high - e.value for e in found], "arrayminus": [e.value - e.low for e in found],
        "thickness": 1, "width": 2,
    }  # fmt: skip


def _hover(candidate: Candidate) -> str:
    settings = [f"{k} = {v}" for k, v in candidate.params.items()]
    figures = [f"{name}: {figure(e)}" for name, e in candidate.estimates.items()]
    return "<br>".join([f"<b>trial {candidate.number}</b>", *settings, "", *figures])


def _axis_title(name: str, direction: Direction, candidates: Sequence[Candidate]) -> str:
    unit = next((c.estimates[name].unit for c in candidates if name in c.estimates), "")
    return f"{name} [{unit}], {'higher' if direction is Direction.MAXIMIZE else 'lower'} is better"
