"""Evidence from rounds in which every candidate, and the baseline, was measured once, in a random order. Pure.

Figures are compared within the rounds (`optimize.decision.block_design`), quality by pairs of answers to the same
prompts where there are any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from objectives import Direction, Estimate
from objectives.intervals import log_half
from optimize.decision.block_design import Array, BlockDesign, Z
from optimize.decision.candidate import Candidate
from optimize.decision.evidence import NO_GAIN, shares_of

Figures = Mapping[str, Estimate]
Scale = Callable[[Estimate], tuple[float, float]]
"""From a figure to its value on a scale, and half of its interval there."""


@dataclass(frozen=True)
class AnswerPairs:
    """How the answers of candidates, which quality is scored on, relate to each other.

    Attributes:
        same_sample: Metrics that score the same sample in every round: repeating them adds no evidence on others.
        keys: Candidate's number -> what its answers depend on; no sampling stands between candidates of equal keys.
        ratios: Candidate's number -> quality metric -> its ratio to the baseline's on the answers that both gave. It
            takes the place of the figures in the rounds, and of the sampling between the two.
    """

    same_sample: Collection[str] = ()
    keys: Mapping[int, str] = field(default_factory=dict)
    ratios: Mapping[int, Figures] = field(default_factory=dict)


class Rounds:
    """Evidence from rounds, as `optimize.decision.evidence.Evidence`.

    Args:
        readings: Candidate's number -> its figures in each round, shape (rounds,), two rounds or more; the same rounds
            of each.
        baseline: The baseline's number.
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.
        answers: How the candidates' answers relate to each other.
        earlier: Candidate's number -> its figures before the rounds, each read at a time of its own.
    """

    def __init__(
        self, readings: Mapping[int, Sequence[Figures]], baseline: int, directions: Mapping[str, Direction],
        weights: Mapping[str, float], answers: AnswerPairs | None = None, earlier: Mapping[int, Figures] | None = None,
    ) -> None:  # fmt: skip
        self._readings, self._baseline, self._earlier = readings, baseline, earlier or {}
        self._directions, self._shares = directions, shares_of(weights, directions)
        self._answers = answers or AnswerPairs()

    def relative_to(self, number: int) -> Rounds:
        """The same rounds, with another candidate in the baseline's place; pairs with the baseline do not count."""
        answers = AnswerPairs(self._answers.same_sample, self._answers.keys)
        return Rounds(self._readings, number, self._directions, self._shares, answers)

    @property
    def rounds(self) -> int:
        """How many there are."""
        return len(self._readings[self._baseline])

    @property
    def numbers(self) -> list[int]:
        """Numbers of the candidates that were measured in them."""
        return list(self._readings)

    def levels(self, number: int) -> dict[str, Estimate]:
        """Every metric that each round has: its geometric mean, and the interval that a further measurement falls in.

        A metric that is not positive throughout (counts) has its arithmetic mean.
        """
        return self._figures(number, BlockDesign.prediction_interval)

    def means(self, number: int) -> dict[str, Estimate]:
        """The same means, and the interval of what many further measurements reach on average: a fleet's figure."""
        return self._figures(number, BlockDesign.mean_interval)

    def _figures(self, number: int, interval: Callable[[BlockDesign, int], tuple[float, float]]) -> dict[str, Estimate]:
        figures = {}
        for name, first in self._readings[number][0].items():
            numbers = self._having(name)
            if number not in numbers:
                continue
            scale, inverse = (_logarithm, math.exp) if self._positive(name, numbers) else (_linear, float)
            middle, half = interval(self._design(name, numbers, scale), numbers.index(number))
            low, high = inverse(middle - half), inverse(middle + half)
            figures[name] = Estimate(inverse(middle), max(low, 0.0), high, self.rounds, first.unit)
        return figures

    def gain(self, candidate: Candidate, name: str) -> Estimate:
        """Ratio to the baseline within the rounds, in the direction that improves the objective."""
        if candidate.number == self._baseline:
            return self._ratio(0.0, 0.0)
        numbers = self._having(name)
        if not self._positive(name, numbers):
            all_zero = all(r[name].value == 0 for n in numbers for r in self._readings[n])
            return self._ratio(0.0, 0.0) if all_zero else NO_GAIN
        design = self._comparison(name, numbers)
        sampling = self._sampling(name, design, numbers, (candidate.number, self._baseline))
        middle, half = design.difference(numbers.index(candidate.number), numbers.index(self._baseline), sampling)
        return self._ratio(middle if self._directions[name] is Direction.MAXIMIZE else -middle, half)

    def score(self, candidate: Candidate) -> Estimate:
        """The score of each round, compared within the round, so that correlations of objectives are accounted for."""
        if candidate.number == self._baseline:
            return self._ratio(0.0, 0.0)
        difference = self._score_difference(candidate.number, self._baseline)
        return NO_GAIN if difference is None else self._ratio(*difference)

    def tied(self, one: Candidate, other: Candidate) -> bool:
        difference = self._score_difference(one.number, other.number)
        return difference is None or abs(difference[0]) <= difference[1]

    def contrast(self, name: str, weights: Mapping[int, float]) -> Estimate:
        """exp of a weighted sum of the logarithms of a figure that is positive throughout; {1: 1, 0: -1} is a ratio."""
        numbers = list(self._readings)
        design = self._design(name, numbers, _logarithm)
        return self._ratio(*design.contrast({numbers.index(n): w for n, w in weights.items()}))

    def components(self, name: str) -> tuple[float, float] | None:
        """Variance of the logarithm of a single measurement, in common within a round and by itself; None of a figure
        that is not positive throughout.
        """
        numbers = self._having(name)
        if not numbers or not self._positive(name, numbers):
            return None
        return self._design(name, numbers, _logarithm).components()

    def _having(self, name: str) -> list[int]:
        """Candidates that have this figure in every round."""
        return [n for n, rounds in self._readings.items() if all(name in r for r in rounds)]

    def _positive(self, name: str, numbers: Sequence[int]) -> bool:
        return all(r[name].value > 0 for n in numbers for r in self._readings[n])

    def _ratio(self, middle: float, half: float) -> Estimate:
        return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half), self.rounds, "x")

    def _score_difference(self, one: int, other: int) -> tuple[float, float] | None:
        """Difference of the logarithms of two scores, and half of its interval; None where no ratio can be formed."""
        numbers = list(self._readings)
        if not all(self._positive(name, numbers) for name in self._shares):
            return None
        designs = {name: self._comparison(name, numbers) for name in self._shares}
        signed = {n: s if self._directions[n] is Direction.MAXIMIZE else -s for n, s in self._shares.items()}
        score = BlockDesign(
            y=sum((signed[n] * d.y for n, d in designs.items()), np.zeros((len(numbers), self.rounds))),
            claimed=np.sum([signed[n] ** 2 * d.claimed for n, d in designs.items()], axis=0),
            sampling=np.zeros(len(numbers)),
        )
        halves = [signed[n] * self._sampling(n, d, numbers, (one, other)) for n, d in designs.items()]
        return score.difference(numbers.index(one), numbers.index(other), math.hypot(*halves))

    def _sampling(self, name: str, design: BlockDesign, numbers: Sequence[int], pair: tuple[int, int]) -> float:
        """What sampling adds to half of the interval between two candidates."""
        one, other = (self._answers.keys.get(number) for number in pair)
        if one is not None and one == other:
            return 0.0
        halves = [self._half_to_baseline(name, number) for number in pair]
        if None in halves:
            halves = [float(design.sampling[numbers.index(number)]) for number in pair]
        return math.hypot(*(half for half in halves if half is not None))

    def _half_to_baseline(self, name: str, number: int) -> float | None:
        """Half of the interval between a candidate and the baseline by pairs of answers; None where there are none."""
        if number == self._baseline:
            return 0.0
        ratio = self._answers.ratios.get(number, {}).get(name)
        return None if ratio is None else log_half(ratio)

    def _comparison(self, name: str, numbers: Sequence[int]) -> BlockDesign:
        """The design that candidates are compared in, with the ratios by pairs of answers where there are any."""
        design = self._design(name, numbers, _logarithm)
        y, baseline = design.y.copy(), design.y[numbers.index(self._baseline)]
        for row, number in enumerate(numbers):
            if number != self._baseline and (ratio := self._answers.ratios.get(number, {}).get(name)) is not None:
                y[row] = baseline + math.log(ratio.value)
        return BlockDesign(y, design.claimed, design.sampling)

    def _design(self, name: str, numbers: Sequence[int], scale: Scale) -> BlockDesign:
        cells = np.array([[scale(r[name]) for r in self._readings[n]] for n in numbers])
        y, halves, zero = cells[:, :, 0], cells[:, :, 1], np.zeros(len(numbers))
        if name in self._answers.same_sample:
            return BlockDesign(y, zero, halves.mean(1))
        return BlockDesign(y, ((halves / Z) ** 2).mean(1), zero, self._before(name, numbers, scale))

    def _before(self, name: str, numbers: Sequence[int], scale: Scale) -> Array | None:
        """Readings from before the rounds, shape (candidates,), nan where there is none; None where all are missing."""
        values = np.full(len(numbers), math.nan)
        for row, number in enumerate(numbers):
            estimate = self._earlier.get(number, {}).get(name)
            if estimate is not None and (estimate.value > 0 or scale is _linear):
                values[row] = scale(estimate)[0]
        return None if np.isnan(values).all() else values


def _logarithm(estimate: Estimate) -> tuple[float, float]:
    return math.log(estimate.value), log_half(estimate)


def _linear(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, (estimate.high - estimate.low) / 2
