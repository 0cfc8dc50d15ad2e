"""How an objective of the other side differs from the row's, and what follows for the release. Pure.

A non-inferiority test with its limit at the margin: PASS where the whole interval of the change is better than the
limit, FAIL where the whole of it is worse, INCONCLUSIVE else (Wellek, "Testing Statistical Hypotheses of Equivalence
and Noninferiority", 2010, chapter 1). Each end of the interval holds over all looks (`optimize.guard.sequential`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import ndtri

from objectives import Direction, Estimate
from objectives.intervals import log_half
from objectives.segments import Paired
from optimize.decision.block_design import Array, Z
from optimize.guard.sequential import quantile

POWER = 0.8
"""Chance to see the smallest change that counts as seen."""


class Verdict(StrEnum):
    """What is known of one objective, or of the whole release."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Change:
    """The other side's figure relative to the row's.

    Attributes:
        middle: The change, negative where the other side is worse: of logarithms, or as a share of the row's figure.
        error: Its standard error by the differences between rounds.
        freedom: Degrees of freedom of that.
        sampling: Standard error that further rounds do not reduce: of prompts, or of stored figures.
        direction: Which way the objective improves.
        logarithmic: Whether it is on a scale of logarithms.
    """

    middle: float
    error: float
    freedom: float
    sampling: float
    direction: Direction
    logarithmic: bool = True

    def half(self, level: float) -> float:
        """Half of the interval that errs on either side with this probability."""
        rounds = quantile(level, self.freedom) * self.error if self.error else 0.0
        return math.hypot(rounds, quantile(level, math.inf) * self.sampling)

    def limit(self, margin: float) -> float:
        """The change that is as bad as the margin allows, on the change's own scale."""
        if not self.logarithmic:
            return -margin
        return math.log(1 - margin) if self.direction is Direction.MAXIMIZE else -math.log(1 + margin)

    def ratio(self, change: float) -> float:
        """The other side's figure as a multiple of the row's, at a change of this size."""
        signed = change if self.direction is Direction.MAXIMIZE else -change
        return math.exp(signed) if self.logarithmic else max(0.0, 1 + signed)

    def interval(self, pass_level: float, fail_level: float, n: int) -> Estimate:
        """The ratio with the ends that the verdict goes by: the worse one for PASS, the better one for FAIL."""
        ends = [self.ratio(self.middle - self.half(pass_level)), self.ratio(self.middle + self.half(fail_level))]
        return Estimate(self.ratio(self.middle), min(ends), max(ends), n, "x")

    def worst(self, pass_level: float) -> float:
        """How much worse, as a share, the other side is at most; 0 where it is better."""
        return max(0.0, abs(1 - self.ratio(min(0.0, self.middle - self.half(pass_level)))))

    def smallest(self, margin: float, fail_level: float) -> float:
        """How much worse, as a share, the other side must be for a FAIL with a chance of POWER."""
        spread = float(ndtri(POWER)) * math.hypot(self.error, self.sampling)
        worse = self.ratio(self.limit(margin) - self.half(fail_level) - spread)
        return abs(1 - worse)

    def verdict(self, margin: float, pass_level: float, fail_level: float) -> Verdict:
        """What the interval says about the margin."""
        if self.middle - self.half(pass_level) > self.limit(margin):
            return Verdict.PASS
        return Verdict.FAIL if self.middle + self.half(fail_level) < self.limit(margin) else Verdict.INCONCLUSIVE


def in_rounds(values: Sequence[float], row_values: Sequence[float], direction: Direction) -> Change | None:
    """The change within rounds, in which both sides suffer alike from what the machine does.

    Args:
        values: Figure of the other side in each round, two rounds or more.
        row_values: Figure of the row in each of them.
        direction: Which way the objective improves.

    Returns:
        None where nothing can be said relative to the row's figures, which are zero.
    """
    a, b = np.asarray(row_values, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if (a > 0).all() and (b > 0).all():
        return _change(np.log(b) - np.log(a), direction, 0.0, True)
    if a.mean() > 0:
        return _change((b - a) / a.mean(), direction, 0.0, False)
    return Change(0.0, 0.0, math.inf, 0.0, direction, False) if np.array_equal(a, b) else None


def since_stored(values: Sequence[float], stored: Estimate, direction: Direction) -> Change | None:
    """The change against a stored figure, whose interval is for a further measurement, so that it holds the drift of
    the machine since then.
    """
    b = np.asarray(values, dtype=np.float64)
    if stored.value <= 0 or not (b > 0).all():
        return None
    return _change(np.log(b) - math.log(stored.value), direction, log_half(stored) / Z, True)


def _change(differences: Array, direction: Direction, sampling: float, logarithmic: bool) -> Change:
    signed = differences if direction is Direction.MAXIMIZE else -differences
    error = float(signed.std(ddof=1)) / math.sqrt(len(signed))
    return Change(float(signed.mean()), error, len(signed) - 1, sampling, direction, logarithmic)


def of_answers(paired: Paired, level: float, direction: Direction) -> Change | None:
    """The change of a score by pairs of answers to the same prompts.

    Args:
        paired: The comparison.
        level: The row's score, to which a difference is relative where a score is not positive.
        direction: Which way the score improves.

    Returns:
        None where the row's own score is not positive.
    """
    if paired.ratio is not None:
        middle, half = paired.ratio.value - 1, (paired.ratio.high - paired.ratio.low) / 2
    elif level > 0:
        difference = paired.difference
        middle, half = difference.value / level, (difference.high - difference.low) / 2 / level
    else:
        return None
    middle = 0.0 if paired.is_noise else middle
    signed = middle if direction is Direction.MAXIMIZE else -middle
    return Change(signed, 0.0, math.inf, half / Z, direction, False)
