"""Shares of the variance that each of two knobs, and their interaction, explain on a complete grid. Pure.

Analysis of variance of a complete factorial in blocks, the rounds (Montgomery, "Design and Analysis of Experiments",
sections 5.3 and 5.6), on logarithms, because ratios matter. A complete grid needs no model,
unlike the trials of a search (`optimize.search.effects`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from objectives import Objective
from objectives.intervals import CONFIDENCE
from optimize.tables.comparison import Grid
from optimize.tables.shares import Share

Floats = NDArray[np.float64]
_DRAWS, _SEED = 400, 0


def shares_of(grid: Grid, objectives: Mapping[str, Objective]) -> list[Share]:
    """Shares of both knobs and of their pair for each objective; none if the grid has gaps.

    Quality is left out: its repeats score the same prompts, so they are no evidence on other prompts. The table
    compares it in pairs of answers.
    """
    if len(grid.readings) < len(grid.rows):
        return []
    names = [name for name, objective in objectives.items() if not objective.same_sample and _everywhere(grid, name)]
    return [share for name in names for share in _shares(name, grid)]


def _everywhere(grid: Grid, name: str) -> bool:
    return all(name in r and r[name].value > 0 for rounds in grid.readings.values() for r in rounds)


def _shares(name: str, grid: Grid) -> list[Share]:
    """The share of each effect, its interval by resampling the residuals, and the share of chance by the F test."""
    one, other = grid.part.knobs
    first, second = (len({str(row.settings[knob]) for row in grid.rows}) for knob in (one, other))
    logs = [[math.log(r[name].value) for r in grid.readings[row]] for row in range(len(grid.rows))]
    y = np.array(logs).reshape(first, second, grid.rounds)
    means, dof = y.mean(2), (first * second - 1) * (grid.rounds - 1)
    residuals = y - means[:, :, np.newaxis] - y.mean((0, 1)) + y.mean()
    sums = explained(means)
    if not sums.sum() > 0:
        return []
    drawn = np.random.default_rng(_SEED).choice(
        residuals.ravel() * math.sqrt(residuals.size / dof), size=(_DRAWS, *y.shape)
    )
    resampled = np.array([_relative(explained(means + noise)) for noise in drawn.mean(-1)])
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    error = float((residuals**2).sum()) / dof / grid.rounds
    sizes = (first - 1, second - 1, (first - 1) * (second - 1))
    shares = []
    for place, (knobs, size) in enumerate(zip(((one,), (other,), (one, other)), sizes, strict=True)):
        value = float(_relative(sums)[place])
        reached = float(fdtri(size, dof, CONFIDENCE)) * size * error
        chance = reached / (reached + float(sums.sum() - sums[place])) if reached else 0.0
        shares.append(Share(name, knobs, value, float(min(low[place], value)), float(max(high[place], value)), chance))
    return shares


def explained(means: Floats) -> Floats:
    """Sums of squares of the first knob, the second, and their pair, over the cells' means, shape (first, second)."""
    first, second = means.shape
    rows, columns = means.mean(1) - means.mean(), means.mean(0) - means.mean()
    pair = means - means.mean() - rows[:, np.newaxis] - columns
    return np.array([second * (rows**2).sum(), first * (columns**2).sum(), (pair**2).sum()])


def _relative(sums: Floats) -> Floats:
    return np.asarray(sums / sums.sum())
