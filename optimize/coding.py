"""Settings as rows of numbers, for models of what they do. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Levels = Mapping[str, Sequence[Any]]
_GRID_MAX = 20_000


class Coding:
    """A grid of the space, and the coding of any settings.

    Numbers are coded by their place among the levels, 0 to 1, so that ratios count alike where levels are powers;
    anything else by one column per level, 0 or 1.

    Args:
        levels: Knob -> the values that stand for its range; all of its choices.

    Attributes:
        shape: How many values each knob has on the grid; those of ranges are thinned out where the grid were too large.
            None where it is too large nevertheless.
        grid: The coded grid, shape (product of `shape`, columns), the last knob changing fastest; or as many points of
            it as a grid may have, drawn at random.
    """

    shape: list[int] | None

    def __init__(self, levels: Levels) -> None:
        self._levels = {knob: list(values) for knob, values in levels.items()}
        self._numeric = {
            knob: all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            for knob, values in levels.items()
        }
        grid = {knob: list(values) for knob, values in levels.items()}
        while math.prod(map(len, grid.values())) > _GRID_MAX:
            widest = max((k for k in grid if self._numeric[k]), key=lambda k: len(grid[k]), default=None)
            if widest is None or len(grid[widest]) <= 2:
                break
            ends, left = sorted(grid[widest]), len(grid[widest]) - 1
            grid[widest] = [ends[round(i * left / (left - 1))] for i in range(left)]
        points: Iterable[tuple[Any, ...]] = itertools.product(*grid.values())
        self.shape = [len(values) for values in grid.values()]
        if math.prod(self.shape) > _GRID_MAX:
            self.shape, rng = None, random.Random(0)
            points = [tuple(rng.choice(values) for values in grid.values()) for _ in range(_GRID_MAX)]
        self.grid = self.rows([dict(zip(grid, point, strict=True)) for point in points])

    def rows(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Shape (settings, columns)."""
        columns: list[list[float]] = []
        for knob, values in self._levels.items():
            if self._numeric[knob]:
                places = np.linspace(0, 1, len(values))
                columns.append([float(np.interp(p[knob], sorted(values), places)) for p in params])
            else:
                columns += [[float(p[knob] == value) for p in params] for value in values]
        return np.array(columns).T
