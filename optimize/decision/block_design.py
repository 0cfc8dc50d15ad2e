"""One figure of several candidates, each measured once in every round: a randomized complete block design. Pure.

A machine's speed drifts; within a round all candidates suffer alike. On logarithms (ratios are what matters),

    y[c, r] = level[c] + round[r] + residual[c, r].

Differences between candidates are free of what changes from round to round, and the residual mean square says, over all
candidates together, how far two measurements differ for no reason (Montgomery, "Design and Analysis of Experiments",
section 4.1). A *further* measurement, in a round of its own, varies by both components; their sum has the degrees of
freedom of Satterthwaite, "An approximate distribution of estimates of variance components", 1946. A candidate whose own
measurements differ by more than the others' (an INT8 engine had another peak memory at every start) has an interval
from its own alone.

Rounds follow each other within minutes, and a machine may stay slow for longer. Where the candidates were also read
before the rounds, in the search, the variance within candidates over search and rounds counts if it is larger. Readings
of one time are one look at the machine: there are as many degrees of freedom as times, less one. That single reading is
partly the luckiest, which makes the interval wider, not narrower; it moves no level and no gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import fdtri, ndtri, stdtrit

from objectives.intervals import CONFIDENCE

Array = np.ndarray[Any, np.dtype[np.float64]]
_UPPER = (1 + CONFIDENCE) / 2
Z = float(ndtri(_UPPER))
"""Half of an interval in standard errors."""


@dataclass(frozen=True)
class BlockDesign:
    """One figure in rounds.

    Attributes:
        y: Shape (candidates, rounds).
        claimed: Variance that each candidate's measurements claim by themselves, shape (candidates,).
        sampling: Half-width that no repeat makes smaller (quality is scored on the same prompts each time), same shape.
        earlier: A reading of each candidate from before the rounds, same shape, nan where there is none; None for all.
    """

    y: Array
    claimed: Array
    sampling: Array
    earlier: Array | None = None

    @property
    def _residual(self) -> float:
        """Residual mean square."""
        candidates, rounds = self.y.shape
        if candidates == 1:
            return 0.0
        residuals = self.y - self.y.mean(1, keepdims=True) - self.y.mean(0) + self.y.mean()
        return float((residuals**2).sum() / ((candidates - 1) * (rounds - 1)))

    def difference(self, one: int, other: int, sampling: float) -> tuple[float, float]:
        """Mean of one row less that of another, and half of its interval; `sampling` is what sampling adds to that."""
        middle, half = self.contrast({one: 1.0, other: -1.0})
        return middle, math.hypot(half, sampling)

    def contrast(self, weights: Mapping[int, float]) -> tuple[float, float]:
        """A weighted sum of rows' means, and half of its interval; weights of sum 0 cancel what rounds differ in."""
        candidates, rounds = self.y.shape
        separate = [i for i in weights if self._heteroscedastic(i)]
        dof = (1 if separate else candidates - 1) * (rounds - 1)
        variance = sum(w**2 * (self._own_variance(i) if i in separate else self._residual) for i, w in weights.items())
        claimed = sum(w**2 * float(self.claimed[i]) for i, w in weights.items())
        middle = sum(w * float(self.y[i].mean()) for i, w in weights.items())
        return middle, _half(variance / rounds, dof, claimed / rounds)

    def prediction_interval(self, row: int) -> tuple[float, float]:
        """Mean of one row, and half of the interval that a further measurement falls in."""
        rounds = self.y.shape[1]
        variance, dof = self._total_variance()
        if self._heteroscedastic(row):
            variance, dof = self._own_variance(row), rounds - 1
        if self.earlier is not None:
            variance, dof = max(variance, self._variance_since(self.earlier)), min(dof, rounds)
        further = 1 + 1 / rounds
        half = _half(max(variance, self._residual) * further, dof, float(self.claimed[row]) * further)
        return float(self.y[row].mean()), math.hypot(half, self.sampling[row])

    def mean_interval(self, row: int) -> tuple[float, float]:
        """Mean of one row, and half of the interval of what many further ones reach on average in a round of their own.

        What measurements have for themselves averages out over many; what a round has in common does not. Degrees of
        freedom by Satterthwaite; what rounds have in common is less sure by as much as the rest hides of it.
        """
        candidates, rounds = self.y.shape
        shared, own = self.components()
        own_dof, times = max(candidates - 1, 1) * (rounds - 1), rounds - (self.earlier is None)
        if self._heteroscedastic(row):
            own, own_dof = self._own_variance(row), rounds - 1
        further = 1 + 1 / rounds
        spread = (own / rounds) ** 2 / own_dof + shared * (shared + own / candidates) * further**2 / times
        variance = own / rounds + shared * further
        half = _half(variance, variance**2 / spread if spread > 0 else own_dof, float(self.claimed[row]) / rounds)
        return float(self.y[row].mean()), math.hypot(half, self.sampling[row])

    def components(self) -> tuple[float, float]:
        """Variance of a single measurement: what all of one time have in common, and what each has for itself.

        Each without bias, where an interval takes the larger of two estimates: of times there are the rounds, and the
        reading before them where there is one. No less than measurements claim by themselves.
        """
        own = max(self._residual, float(self.claimed.mean()))
        total, _ = self._total_variance()
        if self.earlier is not None:
            total = (total + self._variance_since(self.earlier)) / 2
        return max(total - own, 0.0), own

    def _total_variance(self) -> tuple[float, float]:
        """Variance of a single measurement, between and within rounds, and its degrees of freedom."""
        candidates, rounds = self.y.shape
        between = float(self.y.mean(0).var(ddof=1))  # mean square between rounds, over the number of candidates
        within = (candidates - 1) / candidates * self._residual
        total = between + within
        spread = between**2 / (rounds - 1) + (within**2 / (candidates - 1) / (rounds - 1) if candidates > 1 else 0.0)
        return total, total**2 / spread if spread > 0 else rounds - 1

    def _variance_since(self, earlier: Array) -> float:
        """Variance within rows, over the rounds and a reading before them, of the rows that have one."""
        return float(np.column_stack([earlier, self.y])[~np.isnan(earlier)].var(1, ddof=1).mean())

    def _own_variance(self, row: int) -> float:
        """Variance between a row's own measurements."""
        return float(self.y[row].var(ddof=1))

    def _heteroscedastic(self, row: int) -> bool:
        """Whether a row's measurements differ by more than the others' do, beyond chance; it then has its own interval.

        By an F test of the two variances; what rounds have in common makes them more alike than the test assumes.
        """
        candidates, rounds = self.y.shape
        if candidates == 1:
            return False
        others = float(np.mean([self._own_variance(i) for i in range(candidates) if i != row]))
        return self._own_variance(row) > float(fdtri(rounds - 1, (candidates - 1) * (rounds - 1), CONFIDENCE)) * others


def _half(variance: float, dof: float, claimed: float) -> float:
    """Half of an interval: never less than what the measurements themselves claim, for few rounds may agree by luck.

    What they claim rests on the batches of all windows, not on the few rounds.
    """
    return max(float(stdtrit(dof, _UPPER)) * math.sqrt(variance), Z * math.sqrt(claimed))
