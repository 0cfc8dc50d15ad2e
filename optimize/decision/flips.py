"""Where a decision flips: over the values of one limit, and of one weight, with all else as it is. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimize.decision.constraints import Limit
from optimize.decision.standings import Array, Mask, Standings


@dataclass(frozen=True)
class Step:
    """A range of values over which the same candidate is picked.

    Attributes:
        low: Where it begins.
        high: Where it ends; infinite for the last.
        pick: Number of the candidate; None where nothing keeps every limit.
    """

    low: float
    high: float
    pick: int | None

    def holds(self, value: float) -> bool:
        """Whether a value lies within; the lower end belongs to the range."""
        return self.low <= value < self.high


def over_limit(standings: Standings, limit: Limit) -> list[Step]:
    """The picks over all values of a limit, in rising order from zero.

    The set of those that keep it changes at the candidates' own figures alone.
    """
    scores, others = standings.scores({})[0], standings.feasible({}, but=limit)[0]
    figures = standings.figures(limit, {})[0]
    allowed = others & np.isfinite(scores) & np.isfinite(figures)
    steps: list[Step] = []
    edges = [0.0, *sorted({float(figure) for figure in figures[allowed] if figure > 0}), math.inf]
    for low, high in zip(edges, edges[1:], strict=False):
        # Of a lowest value, a candidate whose figure is the lower end no longer keeps anything above it.
        mask = allowed & (figures <= low if limit.upper else figures >= high)
        steps.append(Step(low, high, _best(standings, scores, mask)))
    return _merged(steps)


def over_weight(standings: Standings, name: str) -> list[Step]:
    """The picks over all values of an objective's weight, in rising order from zero.

    Each candidate's weighted sum of logarithms is a straight line over the weight; the pick is the highest. Which forms
    take the place of others is as it is at the question's own weights.
    """
    candidates, terms = standings.candidates, standings.terms
    feasible = standings.feasible({})[0]
    weights = {n: w for n, w in terms.weights.items() if n in terms.directions and n != name and w > 0}
    start: Array = sum((w * standings.log_gains(n, {})[0] for n, w in weights.items()), np.zeros(len(candidates)))
    slope = standings.log_gains(name, {})[0]
    front = standings.front(feasible & np.isfinite(start) & np.isfinite(slope))
    steps: list[Step] = []
    low, best = 0.0, _highest(start, slope, front)
    while best is not None:
        crossings = [_crossing(start, slope, best, row) if front[row] else math.inf for row in range(len(candidates))]
        high = min((x for x in crossings if x >= low), default=math.inf)
        steps.append(Step(low, high, standings.pick(best, feasible)))
        if high == math.inf:
            break
        rivals = [row for row, x in enumerate(crossings) if x == high]
        low, best = high, max(rivals, key=lambda row: slope[row])
    return _merged(steps or [Step(0.0, math.inf, None)])


def _highest(start: Array, slope: Array, mask: Mask) -> int | None:
    return max(map(int, np.flatnonzero(mask)), key=lambda row: (start[row], slope[row]), default=None)


def _crossing(start: Array, slope: Array, one: int, other: int) -> float:
    """The weight at which another line overtakes; infinite for one that rises no faster."""
    if slope[other] <= slope[one]:
        return math.inf
    return float((start[one] - start[other]) / (slope[other] - slope[one]))


def _best(standings: Standings, scores: Array, mask: Mask) -> int | None:
    rows = np.flatnonzero(standings.front(mask))
    return standings.pick(max(rows, key=lambda row: scores[row]), mask) if len(rows) else None


def _merged(steps: Sequence[Step]) -> list[Step]:
    """Neighbours with the same pick as one; empty ranges left out."""
    merged: list[Step] = []
    for step in steps:
        if merged and merged[-1].pick == step.pick:
            merged[-1] = replace(merged[-1], high=step.high)
        elif step.high > step.low:
            merged.append(step)
    return merged
