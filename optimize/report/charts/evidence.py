"""The evidence behind the recommendation: confirmation, convergence, and time spent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from objectives import Direction
from optimize.decision.recommendation import Candidate
from optimize.formatting import title_of
from optimize.ledger import TrialRecord
from optimize.outcome import Role
from optimize.pareto import hypervolumes
from optimize.report.charts.canvas import SHAPES, Block, Drawing, Label, Mark, Stroke
from optimize.report.charts.marks import HEIGHT, WIDTH, axis_title
from optimize.report.charts.scales import Scale, frame, scale_of
from optimize.report.data import Facts
from optimize.report.time_spent import measuring_s

_ROW = 24.0


def confirmation(facts: Facts) -> list[Drawing]:
    """Per objective: each candidate's figure with its interval, beside the search's single measurement."""
    recommendation = facts.recommendation
    if recommendation is None:
        return []
    ranked = sorted(recommendation.considered, key=lambda c: -recommendation.scores[c.number].value)
    best = list(recommendation.front[:6])
    shown = ranked if recommendation.rounds else [*best, *(c for c in ranked if c.baseline and c not in best)]
    return [_forest(facts, name, shown) for name in facts.directions if all(name in c.estimates for c in shown)]


def _forest(facts: Facts, name: str, shown: Sequence[Candidate]) -> Drawing:
    bottom = 30 + _ROW * len(shown) + 6
    drawing = Drawing(f"confirmation_{name}", f"{title_of(name)} of the candidates", WIDTH, bottom + 38)
    figures = [e for c in shown for e in (c.estimates[name], c.first.get(name, c.estimates[name]))]
    ends = [v for e in figures for v in (e.low, e.high, e.value) if v > 0]
    scale = scale_of(ends or [0.0, 1.0], 80, WIDTH - 14, facts.unit(name))
    for value, text in scale.ticks(4):
        drawing.add(Stroke([[(scale.at(value), 24), (scale.at(value), bottom)]], "grid"))
        drawing.add(Label(scale.at(value), bottom + 15, text))
    drawing.add(Label(4, 14, axis_title(facts, name, scale), "ink", "start"))
    base = next((c for c in shown if c.baseline), None)
    if base is not None:
        at = scale.at(base.estimates[name].value)
        drawing.add(Stroke([[(at, 24), (at, bottom)]], "base", 1.2, "2 3"))
    for row, c in enumerate(shown):
        _forest_row(drawing, facts, c, name, scale, 30 + _ROW * (row + 0.5))
    return drawing


def _forest_row(drawing: Drawing, facts: Facts, c: Candidate, name: str, scale: Scale, y: float) -> None:
    kind, e = facts.kind(next(x for x in facts.candidates if x.number == c.number)), c.estimates[name]
    text = "defaults" if c.baseline else f"trial {c.number}"
    drawing.add(Label(72, y + 4, text, "ink" if kind == "pick" else "muted", "end", bold=kind == "pick"))
    drawing.add(Stroke([[(scale.at(e.low), y), (scale.at(e.high), y)]], kind, 2.2, trial=c.number))
    if name in c.first:
        drawing.add(Mark(scale.at(c.first[name].value), y, kind, "circle", 3.6, c.number, "open"))
    drawing.add(Mark(scale.at(e.value), y, kind, SHAPES[kind], 5.5, c.number))


# --- convergence --------------------------------------------------------------------------------------------------


def convergence(facts: Facts) -> list[Drawing]:
    """Hypervolume and best score after each trial."""
    if facts.search is None or len(facts.candidates) < 2:
        return []
    ordered = sorted(facts.candidates, key=lambda c: c.number)
    volumes = volume_shares(facts, ordered)
    scores, best = [], 0.0
    for c in ordered:
        best = max(best, facts.search.scores[c.number].value) if c.feasible else best
        scores.append(best)
    numbers = [c.number for c in ordered]
    return [
        _steps("hypervolume", "Hypervolume, share of the final one", numbers, volumes, "share"),
        _steps("best_score", "Best score so far (× the default)", numbers, scores, "x"),
    ]


def volume_shares(facts: Facts, ordered: Sequence[Candidate]) -> list[float]:
    """Hypervolume of the feasible trials so far, as a share of that of all.

    In logarithms where every value is positive; measured from the worst feasible value of each objective, a tenth of
    the range beyond it.
    """
    names = [n for n in facts.directions if all(n in c.estimates for c in ordered)]
    columns = [[_scaled(facts, n, c) for c in ordered] for n in names]
    values = np.array(columns, dtype=float).T
    feasible = np.array([c.feasible for c in ordered])
    if not feasible.any() or values.shape[1] < 2:
        return [0.0] * len(ordered)
    low, high = values[feasible].min(0), values[feasible].max(0)
    values = (values - low) / np.where(high > low, high - low, 1.0)
    values[~feasible] = np.inf
    volumes = hypervolumes(values, np.full(values.shape[1], 1.1))
    return [v / volumes[-1] if volumes[-1] else 0.0 for v in volumes]


def _scaled(facts: Facts, name: str, c: Candidate) -> float:
    values, value = [x.estimates[name].value for x in facts.candidates if name in x.estimates], c.estimates[name].value
    sign = -1.0 if facts.directions[name] is Direction.MAXIMIZE else 1.0
    return sign * (math.log(value) if min(values) > 0 else value)


def _steps(name: str, title: str, numbers: Sequence[int], values: Sequence[float], unit: str) -> Drawing:
    drawing = Drawing(name, title, WIDTH, HEIGHT)
    across = Scale(0, max(1, numbers[-1]), 46, WIDTH - 12)
    up = Scale(0.0, 1.0, HEIGHT - 44, 30) if unit == "share" else scale_of(values, HEIGHT - 44, 30, log=False)
    frame(drawing, across, up, "trial", title)
    line = [(across.at(numbers[0]), up.at(values[0]))]
    for number, before, value in zip(numbers[1:], values, values[1:], strict=False):
        line += [(across.at(number), up.at(before)), (across.at(number), up.at(value))]
    drawing.add(Stroke([line], "strong", 2.0))
    rises = [(n, v) for n, v, b in zip(numbers, values, [0.0, *values], strict=False) if v > 1.0001 * b]
    drawing.add(*(Mark(across.at(n), up.at(v), "strong", "circle", 3.2, n) for n, v in rises))
    return drawing


# --- time spent -----------------------------------------------------------------------------------------------

_PARTS = {
    "under load": "part1", "starting engines": "part2", "sampler": "part3", "everything else": "part4",
}  # fmt: skip


def spent_s(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Seconds of ended trials by activity."""
    ended = [r for r in records if "wall" in r.seconds]
    load = sum(map(measuring_s, ended))
    start = sum(r.seconds.get("engine_start", 0.0) for r in ended)
    sampler = sum(r.seconds.get("ask", 0.0) for r in ended)
    rest = sum(r.seconds["wall"] for r in ended) - load - start - sampler
    return dict(zip(_PARTS, (load, start, sampler, max(0.0, rest)), strict=True))


def time_bar(facts: Facts) -> Drawing:
    """Minutes of search and confirmation by activity."""
    searched = [r for r in facts.records if r.role != Role.CONFIRMATION]
    rows = {
        "search": spent_s(searched),
        "confirmation": spent_s([r for r in facts.records if r.role == Role.CONFIRMATION]),
    }
    drawing = Drawing("time", "Time spent", WIDTH, HEIGHT)
    scale = Scale(0.0, max(0.1, *(sum(r.values()) / 60 for r in rows.values())), 92, WIDTH - 14)
    drawing.add(Label(4, 20, "Time (minutes)", "ink", "start"))
    for value, text in scale.ticks(4):
        drawing.add(Stroke([[(scale.at(value), 30), (scale.at(value), 118)]], "grid"))
        drawing.add(Label(scale.at(value), 133, text))
    for i, (name, parts) in enumerate(rows.items()):
        at, y = 0.0, 38.0 + 42 * i
        drawing.add(Label(86, y + 19, name, "ink", "end"))
        for part, seconds in parts.items():
            drawing.add(Block(scale.at(at), y, scale.at(at + seconds / 60) - scale.at(at), 28, _PARTS[part]))
            at += seconds / 60
    for i, (part, role) in enumerate(_PARTS.items()):
        total = sum(r[part] for r in rows.values())
        drawing.add(Block(92, 158 + 24 * i, 12, 12, role))
        drawing.add(Label(112, 168 + 24 * i, f"{part}, {total / 60:.1f} min", "ink", "start"))
    return drawing
