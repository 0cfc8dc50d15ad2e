"""Logarithms of what candidates gain, and whether they keep limits, as arrays: for decisions many times over. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from objectives import Direction
from optimize.decision.candidate import Candidate
from optimize.decision.constraints import Limit
from optimize.decision.evidence import shares_of
from optimize.decision.terms import Terms
from optimize.pareto import front as front_of

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Rows = np.ndarray[Any, np.dtype[np.intp]]
Shifts = Mapping[str, Array]
"""Metric -> what is added to the logarithm of each candidate's figure, shape (draws, candidates)."""


@dataclass(frozen=True)
class Standings:
    """Candidates under some terms, as the figures that decide.

    Attributes:
        candidates: The candidates, the baseline among them.
        terms: Objectives, weights and limits.
        simple: Candidate's number -> that of the form which takes its place if it keeps every limit; see
            `optimize.decision.recommendation.simple_forms`.
    """

    candidates: Sequence[Candidate]
    terms: Terms
    simple: Mapping[int, int] = field(default_factory=dict)

    @property
    def baseline(self) -> int:
        """Row of the baseline."""
        return next(row for row, c in enumerate(self.candidates) if c.baseline)

    def log_gains(self, name: str, shifts: Shifts) -> Array:
        """Logarithm of each candidate's gain in one objective, shape (draws, candidates); nan where there is no ratio.

        Quality is compared by pairs of answers where there are any.
        """
        sign = 1.0 if self.terms.directions[name] is Direction.MAXIMIZE else -1.0
        return sign * self._log_ratios(name, shifts)

    def _log_ratios(self, name: str, shifts: Shifts) -> Array:
        logs = np.array([_log(c, name) for c in self.candidates])
        ratios = logs - logs[self.baseline]
        for row, c in enumerate(self.candidates):
            if row != self.baseline and (ratio := c.ratios.get(name)) is not None and ratio.value > 0:
                ratios[row] = math.log(ratio.value)
        shift = shifts.get(name, np.zeros((1, len(self.candidates))))
        moved: Array = ratios + shift - shift[:, [self.baseline]]
        moved[:, self.baseline] = 0.0
        return moved

    def scores(self, shifts: Shifts) -> Array:
        """Logarithm of each candidate's score, shape (draws, candidates); -inf where it has none."""
        shares = shares_of(self.terms.weights, self.terms.directions)
        total = sum((share * self.log_gains(name, shifts) for name, share in shares.items()), np.zeros((1, 1)))
        return np.where(np.isnan(total), -np.inf, total)

    def keeps(self, limit: Limit, shifts: Shifts) -> Mask:
        """Whether each candidate keeps a limit, shape (draws, candidates); a figure that was not measured breaks it."""
        excess = self.figures(limit, shifts) - limit.value
        return np.asarray(excess <= 0 if limit.upper else excess >= 0)

    def figures(self, limit: Limit, shifts: Shifts) -> Array:
        """What a limit is held against, in its own unit or relative to the baseline, shape (draws, candidates)."""
        values = np.array([_value(c, limit.metric) for c in self.candidates])
        if limit.relative:
            ratios = np.exp(self._log_ratios(limit.metric, shifts))
            ratios[:, (values == 0) & (values[self.baseline] == 0)] = 1.0
            return ratios
        moved: Array = values * np.exp(shifts.get(limit.metric, np.zeros((1, len(values)))))
        return moved

    def feasible(self, shifts: Shifts, but: Limit | None = None) -> Mask:
        """Whether each candidate keeps all limits, or all but one, shape (draws, candidates)."""
        mask = np.ones((1, len(self.candidates)), dtype=bool)
        for limit in self.terms.limits:
            if limit is not but:
                mask = mask & self.keeps(limit, shifts)
        return mask

    def picks(self, best: Rows, mask: Mask) -> Rows:
        """Row of the pick, shape (draws,): the best candidate, or the form that takes its place.

        Args:
            best: Row of the candidate with the best score in each draw, shape (draws,).
            mask: Whether each candidate keeps all limits, shape (draws, candidates), or (1, candidates) for all draws.
        """
        picks, mask = best.copy(), np.broadcast_to(mask, (len(best), len(self.candidates)))
        rows = {c.number: row for row, c in enumerate(self.candidates)}
        for number, form in self.simple.items():
            picks[(best == rows[number]) & mask[:, rows[form]]] = rows[form]
        return picks

    def pick(self, best: int, mask: Mask) -> int:
        """Number of the pick where one candidate, a row, has the best score of those that keep all limits.

        Args:
            best: Its row.
            mask: Whether each candidate keeps all limits, shape (candidates,).
        """
        return self.candidates[int(self.picks(np.array([best]), mask[None, :])[0])].number

    def front(self, mask: Mask) -> Mask:
        """Those of some candidates, shape (candidates,), that none of them dominates by its figures."""
        rows = np.flatnonzero(mask)
        front = np.zeros(len(mask), dtype=bool)
        front[rows[front_of([self.candidates[row].estimates for row in rows], self.terms.directions)]] = True
        return front


def _value(candidate: Candidate, name: str) -> float:
    estimate = candidate.estimates.get(name)
    return math.nan if estimate is None else estimate.value


def _log(candidate: Candidate, name: str) -> float:
    value = _value(candidate, name)
    return math.log(value) if value > 0 else math.nan
