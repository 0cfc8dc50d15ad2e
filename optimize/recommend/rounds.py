"""Evidence from rounds in which every candidate, and the baseline, was measured once, in a random order. Pure.

A machine's speed drifts; within a round all suffer alike. On logarithms (ratios are what matters),

    y[c, r] = level[c] + round[r] + rest[c, r],

a randomized complete block design: differences between candidates are free of what changes from round to round, and
the mean square of the rest says, over all candidates together, how far two measurements differ for no reason
(Montgomery, "Design and Analysis of Experiments", section 4.1). What a *further* measurement will read, in a round of
its own, varies by both components; their sum has the degrees of freedom of Satterthwaite, "An approximate distribution
of estimates of variance components", 1946.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from objectives import Direction, Estimate
from objectives.intervals import CONFIDENCE
from optimize.recommend.candidate import Candidate
from optimize.recommend.evidence import NO_GAIN, log_half, shares_of

Array = np.ndarray[Any, np.dtype[np.float64]]
_UPPER = (1 + CONFIDENCE) / 2
LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Layout:
    """One figure in rounds.

    Attributes:
        y: Shape (candidates, rounds).
        own: Variance that each candidate's measurements claim by themselves, shape (candidates,).
        sampling: Half-width that no repeat makes smaller (quality is scored on the same prompts each time), same shape.
    """

    y: Array
    own: Array
    sampling: Array

    @property
    def _rest(self) -> float:
        """Mean square of the rest."""
        candidates, rounds = self.y.shape
        if candidates == 1:
            return 0.0
        rest = self.y - self.y.mean(1, keepdims=True) - self.y.mean(0) + self.y.mean()
        return float((rest**2).sum() / ((candidates - 1) * (rounds - 1)))

    def difference(self, one: int, other: int, alike: bool = False) -> tuple[float, float]:
        """Mean of one row less that of another, and half of its interval; `alike` if no sampling stands between."""
        candidates, rounds = self.y.shape
        dof = (candidates - 1) * (rounds - 1)
        # Never less than what the measurements themselves claim: few rounds may agree by luck.
        variance = sum(max(self._rest, float(self.own[i])) for i in (one, other)) / rounds
        half = float(stdtrit(dof, _UPPER) * math.sqrt(variance))
        middle = float((self.y[one] - self.y[other]).mean())
        return middle, half if alike else math.hypot(half, self.sampling[one], self.sampling[other])

    def further(self, one: int) -> tuple[float, float]:
        """Mean of one row, and half of the interval that a further measurement falls in."""
        candidates, rounds = self.y.shape
        between = float(self.y.mean(0).var(ddof=1))  # mean square between rounds, over the number of candidates
        within = (candidates - 1) / candidates * self._rest
        total = between + within
        spread = between**2 / (rounds - 1) + (within**2 / (candidates - 1) / (rounds - 1) if candidates > 1 else 0.0)
        dof = total**2 / spread if spread > 0 else rounds - 1
        variance = max(total, self._rest, float(self.own[one])) * (1 + 1 / rounds)
        half = float(stdtrit(dof, _UPPER) * math.sqrt(variance))
        return float(self.y[one].mean()), math.hypot(half, self.sampling[one])


class Rounds:
    """Evidence from rounds, as `optimize.recommend.evidence.Evidence`.

    Args:
        readings: Candidate's number -> its figures in each round, shape (rounds,), two rounds or more; the same rounds
            of each.
        baseline: The baseline's number.
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.
        same_sample: Metrics that score the same sample in every round: repeating them adds no evidence on others.
        answers: Candidate's number -> what its answers depend on; where two have that in common, neither sampling
            stands between them.
    """

    def __init__(
        self, readings: Mapping[int, Sequence[Mapping[str, Estimate]]], baseline: int,
        directions: Mapping[str, Direction], weights: Mapping[str, float], same_sample: Collection[str] = (),
        answers: Mapping[int, str] | None = None,
    ) -> None:  # fmt: skip
        self._readings, self._baseline = readings, baseline
        self._directions, self._shares = directions, shares_of(weights, directions)
        self._same_sample, self._answers = set(same_sample), answers or {}

    def against(self, number: int) -> Rounds:
        """The same rounds, another candidate as what gains are relative to."""
        return Rounds(self._readings, number, self._directions, self._shares, self._same_sample, self._answers)

    @property
    def rounds(self) -> int:
        return len(self._readings[self._baseline])

    def levels(self, number: int) -> dict[str, Estimate]:
        """Every metric that each round has: its geometric mean, and the interval that a further measurement falls in.

        A metric that is not positive throughout (counts) has its arithmetic mean.
        """
        found = {}
        for name, first in self._readings[number][0].items():
            having = [n for n in self._readings if all(name in r for r in self._readings[n])]
            if number not in having:
                continue
            positive = all(r[name].value > 0 for n in having for r in self._readings[n])
            scale, back = (_logs, math.exp) if positive else (_as_is, float)
            middle, half = self._layout(name, having, scale).further(having.index(number))
            low, high = back(middle - half), back(middle + half)
            found[name] = Estimate(back(middle), max(low, 0.0), high, self.rounds, first.unit)
        return found

    def gain(self, candidate: Candidate, name: str) -> Estimate:
        """Ratio to the baseline within the rounds."""
        if candidate.number == self._baseline:
            return Estimate(1.0, 1.0, 1.0, self.rounds, "x")
        numbers = [n for n in self._readings if all(name in r for r in self._readings[n])]
        if not all(r[name].value > 0 for n in numbers for r in self._readings[n]):
            same = all(r[name].value == 0 for n in numbers for r in self._readings[n])
            return Estimate(1.0, 1.0, 1.0, self.rounds, "x") if same else NO_GAIN
        layout = self._layout(name, numbers, _logs)
        alike = self._alike(candidate.number, self._baseline)
        middle, half = layout.difference(numbers.index(candidate.number), numbers.index(self._baseline), alike)
        return self._ratio(middle if self._directions[name] is Direction.MAXIMIZE else -middle, half)

    def score(self, candidate: Candidate) -> Estimate:
        """The score of each round, compared within the round: what objectives have in common is accounted for."""
        if candidate.number == self._baseline:
            return Estimate(1.0, 1.0, 1.0, self.rounds, "x")
        found = self._scores(candidate.number, self._baseline)
        return NO_GAIN if found is None else self._ratio(*found)

    def tied(self, one: Candidate, other: Candidate) -> bool:
        found = self._scores(one.number, other.number)
        return found is None or abs(found[0]) <= found[1]

    def _ratio(self, middle: float, half: float) -> Estimate:
        return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half), self.rounds, "x")

    def _scores(self, one: int, other: int) -> tuple[float, float] | None:
        """Difference of the logarithms of two scores, and half of its interval; None where no ratio can be formed."""
        numbers = list(self._readings)
        values = [r[name].value for rounds in self._readings.values() for r in rounds for name in self._shares]
        if not all(v > 0 for v in values):
            return None
        parts = {name: self._layout(name, numbers, _logs) for name in self._shares}
        signed = {n: s if self._directions[n] is Direction.MAXIMIZE else -s for n, s in self._shares.items()}
        layout = Layout(
            y=sum((signed[n] * part.y for n, part in parts.items()), np.zeros_like(next(iter(parts.values())).y)),
            own=np.sum([signed[n] ** 2 * part.own for n, part in parts.items()], axis=0),
            sampling=np.sqrt(np.sum([(signed[n] * part.sampling) ** 2 for n, part in parts.items()], axis=0)),
        )
        return layout.difference(numbers.index(one), numbers.index(other), self._alike(one, other))

    def _alike(self, one: int, other: int) -> bool:
        return one in self._answers and self._answers[one] == self._answers.get(other)

    def _layout(self, name: str, numbers: Sequence[int], scale: Any) -> Layout:
        cells = [[scale(r[name]) for r in self._readings[n]] for n in numbers]
        y, halves = np.array([[v for v, _ in row] for row in cells]), np.array([[h for _, h in row] for row in cells])
        nothing = np.zeros(len(numbers))
        if name in self._same_sample:
            return Layout(y, nothing, halves.mean(1))
        return Layout(y, ((halves / ndtri(_UPPER)) ** 2).mean(1), nothing)


def _logs(estimate: Estimate) -> tuple[float, float]:
    return math.log(estimate.value), log_half(estimate)


def _as_is(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, (estimate.high - estimate.low) / 2
