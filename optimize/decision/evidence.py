"""Evidence on how candidates compare, which a recommendation rests on. Pure.

The score of a candidate is the weighted geometric mean of its gains over the baseline,

    score = prod_i gain_i ** (w_i / sum_j w_j),

with gain_i the ratio to the baseline in the direction that improves objective i. It needs no normalization over the
front, rises with every objective, and reads as "overall this many times as good as vLLM's defaults".
Weighted product model: Bridgman, "Dimensional Analysis", 1922; Triantaphyllou, "Multi-Criteria Decision Making", 2000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from objectives import Direction, Estimate
from objectives.base import gain
from objectives.intervals import log_half
from optimize.decision.candidate import Candidate

NO_GAIN = Estimate(0.0, 0.0, 0.0, 0, "x")
"""The gain where no ratio can be formed."""


class Evidence(Protocol):
    """How candidates compare with the baseline and with each other."""

    def gain(self, candidate: Candidate, name: str) -> Estimate:
        """Gain of one objective over the baseline, with its interval."""

    def score(self, candidate: Candidate) -> Estimate:
        """Weighted geometric mean of the gains, with its interval."""

    def tied(self, one: Candidate, other: Candidate) -> bool:
        """Whether the scores of two candidates cannot be told apart."""


@dataclass(frozen=True)
class SingleReadings:
    """One measurement of each: intervals come from within measurements, so the variance between them is missed.

    Attributes:
        baseline: The candidate that gains are relative to.
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.
    """

    baseline: Candidate
    directions: Mapping[str, Direction]
    weights: Mapping[str, float]

    def gain(self, candidate: Candidate, name: str) -> Estimate:
        """Logarithms of independent figures: half-widths add in squares; of answers to the same prompts, the pairs."""
        if candidate.number != self.baseline.number and (ratio := candidate.ratios.get(name)) is not None:
            return ratio if self.directions[name] is Direction.MAXIMIZE else inverse(ratio)
        figure, reference = candidate.estimates[name], self.baseline.estimates[name]
        value = gain(self.directions[name], figure.value, reference.value)
        # Quality on the same answers is one estimate.
        if candidate.number == self.baseline.number or figure == reference:
            return Estimate(1.0, 1.0, 1.0, figure.n, "x")
        if math.isnan(value):
            return NO_GAIN
        half = math.hypot(log_half(figure), log_half(reference))
        return Estimate(value, value * math.exp(-half), value * math.exp(half), min(figure.n, reference.n), "x")

    def score(self, candidate: Candidate) -> Estimate:
        """Half-widths of independent logarithms add in squares (delta method)."""
        shares = shares_of(self.weights, self.directions)
        middle, below, above = 0.0, 0.0, 0.0
        for name, share in shares.items():
            gain_of = self.gain(candidate, name)
            if not gain_of.value > 0:
                return NO_GAIN
            middle += share * math.log(gain_of.value)
            below += (share * math.log(gain_of.value / max(gain_of.low, 1e-9))) ** 2
            above += (share * math.log(gain_of.high / gain_of.value)) ** 2
        low, high = middle - math.sqrt(below), middle + math.sqrt(above)
        return Estimate(math.exp(middle), math.exp(low), math.exp(high), len(shares), "x")

    def tied(self, one: Candidate, other: Candidate) -> bool:
        first, second = sorted((self.score(one), self.score(other)), key=lambda e: -e.value)
        return second.high > first.low


def inverse(ratio: Estimate) -> Estimate:
    """The ratio the other way round."""
    low, high = (1 / max(end, 1e-9) for end in (ratio.high, ratio.low))
    return Estimate(1 / ratio.value, low, high, ratio.n, ratio.unit)


def shares_of(weights: Mapping[str, float], directions: Mapping[str, Direction]) -> dict[str, float]:
    """Objective -> its exponent in the score; they add up to 1."""
    positive = {name: w for name, w in weights.items() if w > 0 and name in directions}
    return {name: w / sum(positive.values()) for name, w in positive.items()}
