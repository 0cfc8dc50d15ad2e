"""What each of two knobs, and the two together, explain of a figure that a whole grid was measured for. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from objectives import Objective
from optimize.report.importance import Share, shares
from optimize.tables.compare import Grid


def shares_of(grid: Grid, objectives: Mapping[str, Objective]) -> list[Share]:
    """Shares of both knobs and of their pair for each objective; what changed from round to round is taken out.

    Quality is left out: its repeats score the same prompts, and would look like evidence on others. The table compares
    it in pairs of answers.
    """
    if not grid.readings:
        return []
    names = [name for name, objective in objectives.items() if not objective.same_sample and _everywhere(grid, name)]
    params = [grid.rows[row].settings for row, found in grid.readings.items() for _ in found]
    levels = {knob: list(dict.fromkeys(p[knob] for p in params)) for knob in grid.part.knobs}
    figures = {name: _adjusted(grid, name) for name in names}
    return shares(params, figures, levels, dict.fromkeys(names, False))


def _everywhere(grid: Grid, name: str) -> bool:
    return all(name in r and r[name].value > 0 for found in grid.readings.values() for r in found)


def _adjusted(grid: Grid, name: str) -> list[float]:
    """Logarithms less the mean of their round."""
    logs = [[math.log(r[name].value) for r in found] for found in grid.readings.values()]
    means = [sum(column) / len(column) for column in zip(*logs, strict=True)]
    return [value - means[number] for found in logs for number, value in enumerate(found)]
