"""Evidence from rounds in which every candidate, and the baseline, was measured once, in a random order. Pure.

A machine's speed drifts; within a round all suffer alike. On logarithms (ratios are what matters),

    y[c, r] = level[c] + round[r] + rest[c, r],

a randomized complete block design: differences between candidates are free of what changes from round to round, and
the mean square of the rest says, over all candidates together, how far two measurements differ for no reason
(Montgomery, "Design and Analysis of Experiments", section 4.1). What a *further* measurement will read, in a round of
its own, varies by both components; their sum has the degrees of freedom of Satterthwaite, "An approximate distribution
of estimates of variance components", 1946. A candidate whose own measurements differ by more than the others' (an INT8
engine's peak memory was another with every engine) has an interval from its own alone.

Rounds follow each other within minutes, and a machine may stay slow for longer. Where what the search read of the
candidates is known too, minutes before, the variance within candidates over search and rounds counts if it is larger,
and readings of one time are one look at the machine: as many degrees of freedom as times, less one. That single reading
is partly the luckiest, which makes the interval wider, not narrower; it moves no level and no gain.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import fdtri, ndtri, stdtrit

from objectives import Direction, Estimate
from objectives.intervals import CONFIDENCE, log_half
from optimize.decision.candidate import Candidate
from optimize.decision.evidence import NO_GAIN, shares_of

Array = np.ndarray[Any, np.dtype[np.float64]]
_UPPER = (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Layout:
    """One figure in rounds.

    Attributes:
        y: Shape (candidates, rounds).
        own: Variance that each candidate's measurements claim by themselves, shape (candidates,).
        sampling: Half-width that no repeat makes smaller (quality is scored on the same prompts each time), same shape.
        earlier: A reading of each candidate from before the rounds, same shape, nan where there is none; None for all.
    """

    y: Array
    own: Array
    sampling: Array
    earlier: Array | None = None

    @property
    def _rest(self) -> float:
        """Mean square of the rest."""
        candidates, rounds = self.y.shape
        if candidates == 1:
            return 0.0
        rest = self.y - self.y.mean(1, keepdims=True) - self.y.mean(0) + self.y.mean()
        return float((rest**2).sum() / ((candidates - 1) * (rounds - 1)))

    def difference(self, one: int, other: int, sampling: float) -> tuple[float, float]:
        """Mean of one row less that of another, and half of its interval; `sampling` is what sampling adds to that."""
        middle, half = self.contrast({one: 1.0, other: -1.0})
        return middle, math.hypot(half, sampling)

    def contrast(self, weights: Mapping[int, float]) -> tuple[float, float]:
        """A weighted sum of rows' means, and half of its interval; weights of sum 0 cancel what rounds differ in."""
        candidates, rounds = self.y.shape
        alone = [i for i in weights if self._heteroscedastic(i)]
        dof = (1 if alone else candidates - 1) * (rounds - 1)
        rest = sum(w**2 * (self._own_variance(i) if i in alone else self._rest) for i, w in weights.items())
        claimed = sum(w**2 * float(self.own[i]) for i, w in weights.items())
        middle = sum(w * float(self.y[i].mean()) for i, w in weights.items())
        return middle, self._half(rest / rounds, dof, claimed / rounds)

    def prediction_interval(self, one: int) -> tuple[float, float]:
        """Mean of one row, and half of the interval that a further measurement falls in."""
        candidates, rounds = self.y.shape
        between = float(self.y.mean(0).var(ddof=1))  # mean square between rounds, over the number of candidates
        within = (candidates - 1) / candidates * self._rest
        total = between + within
        spread = between**2 / (rounds - 1) + (within**2 / (candidates - 1) / (rounds - 1) if candidates > 1 else 0.0)
        dof = total**2 / spread if spread > 0 else rounds - 1
        if self._heteroscedastic(one):
            total, dof = self._own_variance(one), rounds - 1
        if self.earlier is not None:
            total, dof = max(total, self._over_search_and_rounds(self.earlier)), min(dof, rounds)
        once_more = 1 + 1 / rounds
        half = self._half(max(total, self._rest) * once_more, dof, float(self.own[one]) * once_more)
        return float(self.y[one].mean()), math.hypot(half, self.sampling[one])

    def _over_search_and_rounds(self, earlier: Array) -> float:
        """Variance within rows, of those that were read before the rounds."""
        return float(np.column_stack([earlier, self.y])[~np.isnan(earlier)].var(1, ddof=1).mean())

    def _half(self, variance: float, dof: float, claimed: float) -> float:
        """Half of an interval: never less than what the measurements themselves claim, few rounds may agree by luck.

        What they claim rests on the batches of all windows, not on the few rounds.
        """
        return max(float(stdtrit(dof, _UPPER)) * math.sqrt(variance), float(ndtri(_UPPER)) * math.sqrt(claimed))

    def _own_variance(self, one: int) -> float:
        """Variance between a row's own measurements."""
        return float(self.y[one].var(ddof=1))

    def _heteroscedastic(self, one: int) -> bool:
        """Whether a row's measurements differ by more than the others' do, beyond chance: it speaks for itself then.

        By an F test of the two variances; what rounds have in common makes them more alike than it takes them to be.
        """
        candidates, rounds = self.y.shape
        if candidates == 1:
            return False
        others = float(np.mean([self._own_variance(i) for i in range(candidates) if i != one]))
        return self._own_variance(one) > float(fdtri(rounds - 1, (candidates - 1) * (rounds - 1), CONFIDENCE)) * others


class Rounds:
    """Evidence from rounds, as `optimize.decision.evidence.Evidence`.

    Args:
        readings: Candidate's number -> its figures in each round, shape (rounds,), two rounds or more; the same rounds
            of each.
        baseline: The baseline's number.
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.
        same_sample: Metrics that score the same sample in every round: repeating them adds no evidence on others.
        answers: Candidate's number -> what its answers depend on; where two have that in common, no sampling
            stands between them.
        ratios: Candidate's number -> quality metric -> its ratio to the baseline's on the answers that both gave:
            takes the place of what the rounds have of it, and of the sampling between the two.
        earlier: Candidate's number -> its figures before the rounds, each read at a time of its own.
    """

    def __init__(
        self, readings: Mapping[int, Sequence[Mapping[str, Estimate]]], baseline: int,
        directions: Mapping[str, Direction], weights: Mapping[str, float], same_sample: Collection[str] = (),
        answers: Mapping[int, str] | None = None, ratios: Mapping[int, Mapping[str, Estimate]] | None = None,
        earlier: Mapping[int, Mapping[str, Estimate]] | None = None,
    ) -> None:  # fmt: skip
        self._readings, self._baseline, self._earlier = readings, baseline, earlier or {}
        self._directions, self._shares = directions, shares_of(weights, directions)
        self._same_sample, self._answers, self._ratios = set(same_sample), answers or {}, ratios or {}

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
            middle, half = self._layout(name, having, scale).prediction_interval(having.index(number))
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
        layout = self._compared(name, numbers)
        sampling = self._between(name, layout, numbers, candidate.number, self._baseline)
        middle, half = layout.difference(numbers.index(candidate.number), numbers.index(self._baseline), sampling)
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
        parts = {name: self._compared(name, numbers) for name in self._shares}
        signed = {n: s if self._directions[n] is Direction.MAXIMIZE else -s for n, s in self._shares.items()}
        layout = Layout(
            y=sum((signed[n] * part.y for n, part in parts.items()), np.zeros_like(next(iter(parts.values())).y)),
            own=np.sum([signed[n] ** 2 * part.own for n, part in parts.items()], axis=0),
            sampling=np.zeros(len(numbers)),
        )
        halves = [signed[n] * self._between(n, part, numbers, one, other) for n, part in parts.items()]
        return layout.difference(numbers.index(one), numbers.index(other), math.hypot(*halves))

    def contrast(self, name: str, weights: Mapping[int, float]) -> Estimate:
        """exp of a weighted sum of the logarithms of a figure that is positive throughout; {1: 1, 0: -1} is a ratio."""
        numbers = list(self._readings)
        layout = self._layout(name, numbers, _logs)
        return self._ratio(*layout.contrast({numbers.index(n): w for n, w in weights.items()}))

    def _between(self, name: str, layout: Layout, numbers: Sequence[int], one: int, other: int) -> float:
        """What sampling adds to half of the interval between two candidates."""
        key = self._answers.get(one)
        if key is not None and key == self._answers.get(other):
            return 0.0
        halves = [self._to_baseline(name, number) for number in (one, other)]
        if None in halves:
            return float(np.hypot(layout.sampling[numbers.index(one)], layout.sampling[numbers.index(other)]))
        return math.hypot(*(half for half in halves if half is not None))

    def _to_baseline(self, name: str, number: int) -> float | None:
        """Half of the interval between a candidate and the baseline in pairs of answers; None where these are not."""
        if number == self._baseline:
            return 0.0
        ratio = self._ratios.get(number, {}).get(name)
        return None if ratio is None else log_half(ratio)

    def _compared(self, name: str, numbers: Sequence[int]) -> Layout:
        """The layout that candidates are compared in: where pairs of answers tell more than rounds, these count."""
        layout = self._layout(name, numbers, _logs)
        y, baseline = layout.y.copy(), layout.y[numbers.index(self._baseline)]
        for place, number in enumerate(numbers):
            if number != self._baseline and (ratio := self._ratios.get(number, {}).get(name)) is not None:
                y[place] = baseline + math.log(ratio.value)
        return Layout(y, layout.own, layout.sampling)

    def _layout(self, name: str, numbers: Sequence[int], scale: Any) -> Layout:
        cells = [[scale(r[name]) for r in self._readings[n]] for n in numbers]
        y, halves = np.array([[v for v, _ in row] for row in cells]), np.array([[h for _, h in row] for row in cells])
        nothing = np.zeros(len(numbers))
        if name in self._same_sample:
            return Layout(y, nothing, halves.mean(1))
        return Layout(y, ((halves / ndtri(_UPPER)) ** 2).mean(1), nothing, self._before(name, numbers, scale))

    def _before(self, name: str, numbers: Sequence[int], scale: Any) -> Array | None:
        """What was read before the rounds, shape (candidates,); None where that is nothing at all."""
        found = [self._earlier.get(n, {}).get(name) for n in numbers]
        usable = [e is not None and (e.value > 0 or scale is _as_is) for e in found]
        return (
            np.array([scale(e)[0] if u else math.nan for e, u in zip(found, usable, strict=True)])
            if any(usable)
            else None
        )


def _logs(estimate: Estimate) -> tuple[float, float]:
    return math.log(estimate.value), log_half(estimate)


def _as_is(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, (estimate.high - estimate.low) / 2
