"""Scores that follow from sums over answers, so that they can be resampled and compared in pairs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.intervals import CONFIDENCE

Floats = NDArray[np.float64]
RESAMPLES = 400
"""Bootstrap resamples; a thousand cost a trial on a live engine most of its time beside measuring."""
SHUFFLES = 1000
"""Shuffles of approximate randomization."""
_SEED = 0
_MIN_SEGMENTS = 2
_SIGNIFICANT = 1 - CONFIDENCE


@dataclass(frozen=True, slots=True)
class Paired:
    """Comparison of two scores on their common rows, where differences between prompts cancel.

    Attributes:
        difference: Ours less theirs with its 95 % interval, in the unit of the score; `n` counts the common rows.
        ratio: Ours over theirs with its interval; None where a score is not positive.
        p: P value: chance of such a difference, or a larger one, between two systems that are equally good.
        tolerance: Largest difference that counts as none, in the unit of the score: what the noise floor is uncertain
            by where the reference is a model that repeats itself only nearly.
    """

    difference: Estimate
    ratio: Estimate | None
    p: float
    tolerance: float = 0.0

    @property
    def is_noise(self) -> bool:
        """Whether the difference is within the tolerance."""
        return abs(self.difference.value) <= self.tolerance

    @property
    def significant(self) -> bool:
        return self.p < _SIGNIFICANT and not self.is_noise

    @property
    def judged(self) -> Estimate | None:
        """The ratio that decisions go by: 1 where the difference counts as none, its interval widened to hold 1."""
        if self.ratio is None or not self.is_noise:
            return self.ratio
        return Estimate(1.0, min(self.ratio.low, 1.0), max(self.ratio.high, 1.0), self.ratio.n, self.ratio.unit)

    def to_dict(self) -> dict[str, Any]:
        ratio = None if self.ratio is None else self.ratio.to_dict()
        return {"difference": self.difference.to_dict(), "ratio": ratio, "p": self.p, "tolerance": self.tolerance}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Paired:
        ratio = None if raw["ratio"] is None else Estimate.from_dict(raw["ratio"])
        return cls(Estimate.from_dict(raw["difference"]), ratio, float(raw["p"]), float(raw.get("tolerance", 0.0)))


class SegmentScore(Objective):
    """Score that follows from the sum of its segments' statistics.

    Intervals: percentiles of a bootstrap over segments (Koehn, "Statistical significance tests for machine translation
    evaluation", 2004); unlike a half-width, they cannot leave the scale of the score.
    """

    direction = Direction.MAXIMIZE
    log_scale = False
    same_sample = True
    scale: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    from_workload: ClassVar[bool] = True
    """Whether it compares with the workload's references; a workload without any then has no such score."""

    @abstractmethod
    def statistics(self, measurement: Measurement) -> dict[int, Floats]:
        """Workload row -> its statistics, shape (k,), with one k for all rows."""

    @abstractmethod
    def score(self, totals: Floats) -> float:
        """The score of a sum of statistics, shape (k,)."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return self.estimate_of(self.statistics(measurement))

    def floor(self, repeats: Sequence[Measurement]) -> Estimate | None:
        """The noise floor: the score of a model's further answers against its first ones, mean of all repeats.

        The interval resamples rows, each with all of its repeats, for these depend on each other.
        """
        return self.estimate_of(self.mean_statistics(repeats))

    def mean_statistics(self, repeats: Sequence[Measurement]) -> dict[int, Floats]:
        """Workload row -> mean of its statistics over several measurements, of the rows that all of them have."""
        tables = [self.statistics(measurement) for measurement in repeats]
        rows = set.intersection(*(set(table) for table in tables)) if tables else set()
        return {row: np.asarray(np.mean([table[row] for table in tables], axis=0)) for row in sorted(rows)}

    def estimate_of(self, statistics: Mapping[int, Floats]) -> Estimate | None:
        """The score of the rows' statistics; None where there are fewer than two rows."""
        if len(statistics) < _MIN_SEGMENTS:
            return None
        table = np.array([statistics[row] for row in sorted(statistics)])
        value = self.score(table.sum(0))
        low, high = _ends(self._scores(_resampled(len(table)) @ table))
        return Estimate(value, *self._within(min(low, value), max(high, value)), n=len(table), unit=self.unit)

    def paired(self, measurement: Measurement, *references: Measurement) -> Paired | None:
        """The score against that of references on common rows; None where there are fewer than two.

        Of several references each row counts with the mean of its statistics.

        The interval resamples the same rows for both (paired bootstrap: Koehn, as above). The p value is that of
        approximate randomization, which swaps the answers to each row with a chance of one half (Riezler and Maxwell,
        "On some pitfalls in automatic evaluation and significance testing for MT", 2005), as in sacreBLEU's PairedTest.
        """
        statistics = self.statistics(measurement), self.mean_statistics(references)
        rows = sorted(statistics[0].keys() & statistics[1].keys())
        if len(rows) < _MIN_SEGMENTS:
            return None
        a, b = (np.array([each[row] for row in rows]) for each in statistics)
        first, second = self.score(a.sum(0)), self.score(b.sum(0))
        if np.array_equal(a, b):  # most trials of a study answer like the baseline
            equal = Estimate(1.0, 1.0, 1.0, len(rows), "x") if first > 0 else None
            return Paired(Estimate(0.0, 0.0, 0.0, len(rows), self.unit), equal, 1.0)
        draws = _resampled(len(rows))
        scores, reference_scores = self._scores(draws @ a), self._scores(draws @ b)
        low, high = _ends(scores - reference_scores)
        gap = first - second
        difference = Estimate(gap, min(low, gap), max(high, gap), len(rows), self.unit)
        ratio = _ratio(first, second, scores, reference_scores, len(rows))
        return Paired(difference, ratio, self._p_value(a, b, abs(gap)))

    def _p_value(self, a: Floats, b: Floats, gap: float) -> float:
        swaps = np.random.default_rng(_SEED).integers(0, 2, size=(SHUFFLES, len(a))).astype(np.float64)
        moved = swaps @ (b - a)
        gaps = np.abs(self._scores(a.sum(0) + moved) - self._scores(b.sum(0) - moved))
        return float((np.count_nonzero(gaps >= gap * (1 - 1e-9)) + 1) / (SHUFFLES + 1))

    def _scores(self, totals: Floats) -> Floats:
        return np.array([self.score(total) for total in totals])

    def _within(self, low: float, high: float) -> tuple[float, float]:
        return max(self.scale[0], low), min(self.scale[1], high)


def levelled(difference: Estimate, level: Estimate) -> Estimate:
    """Score on all rows of another configuration: its score, plus the difference on common rows.

    A slow configuration answers few rows, which may be harder or easier than the rest; the difference depends much less
    on the choice of rows. This is the regression estimate with a slope of one (Cochran, "Sampling Techniques", 1977,
    chapter 7). The interval takes both errors as independent.
    """
    value = level.value + difference.value
    low = value - math.hypot(level.value - level.low, difference.value - difference.low)
    high = value + math.hypot(level.high - level.value, difference.high - difference.value)
    return Estimate(value, low, high, difference.n, level.unit)


def _resampled(n: int) -> Floats:
    """How often each of n segments is drawn in each resample, shape (RESAMPLES, n)."""
    counts = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.asarray(counts, dtype=np.float64)


def _ends(scores: Floats) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _ratio(first: float, second: float, numerators: Floats, denominators: Floats, n: int) -> Estimate | None:
    if first <= 0 or second <= 0:
        return None
    # A resample of few segments may hold only answers with a score of zero.
    possible = (numerators > 0) & (denominators > 0)
    value = first / second
    low, high = _ends(numerators[possible] / denominators[possible]) if possible.any() else (value, value)
    return Estimate(value, min(low, value), max(high, value), n, "x")
