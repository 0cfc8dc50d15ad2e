"""The verdict on a candidate, from pairs as they come. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from optimize.canary.betting import BettingSequence
from optimize.canary.blocks import Blocks
from optimize.canary.pair import Pair

_RATIO_MAX = 3.0
"""Ratios of a block count as at most three, and at least a third: bets need bounds, and narrow ones decide sooner."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the candidate must keep, and how sure the verdict is.

    Attributes:
        margin: How much slower it may be, as a share: 0.1 for a tenth.
        failures_max: Share of requests that it may fail and the serving engine does not.
        agreement_min: Share of a greedy answer that must be the same on average; None does without.
        alpha: Probability of a wrong verdict, at most.
        block_s: Least seconds of a block of times.
    """

    margin: float
    failures_max: float
    agreement_min: float | None
    alpha: float
    block_s: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of one quantity: its mean, or geometric mean, and the interval that holds at any time."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a comparison.

    Attributes:
        promote: Whether the candidate takes over.
        reason: Why, in words.
    """

    promote: bool
    reason: str


class Criterion:
    """A quantity of the pairs, and the border that its mean must keep.

    Args:
        name: Its name in metrics.
        border: The border, on the quantity's own scale.
        of: Its value for a pair; None where the pair says nothing about it.
        at_least: Whether it must lie above the border, not below.

    Attributes:
        count: Pairs that said something about it.
    """

    def __init__(
        self, name: str, border: float, of: Callable[[Pair], float | None], at_least: bool = False
    ) -> None:  # fmt: skip
        self.name, self.border, self._of, self._at_least = name, border, of, at_least
        self._sequence = BettingSequence(self._to_unit(border))
        self.count = 0

    @property
    def is_measured(self) -> bool:
        """Whether there is an estimate."""
        return self._sequence.count > 0

    def add(self, pair: Pair) -> None:
        value = self._of(pair)
        if value is not None:
            self.count += 1
            self._take(pair, value)

    def _take(self, pair: Pair, value: float) -> None:
        self._sequence.add(self._to_unit(value))

    def keeps(self, alpha: float) -> bool:
        """Whether the border is proven to be kept."""
        return self._sequence.lies_above(alpha) if self._at_least else self._sequence.lies_below(alpha)

    def breaks(self, alpha: float) -> bool:
        """Whether the border is proven to be broken."""
        return self._sequence.lies_below(alpha) if self._at_least else self._sequence.lies_above(alpha)

    def estimate(self, alpha: float) -> Estimate:
        low, high = self._sequence.interval(alpha)
        return Estimate(*map(self._from_unit, (self._sequence.mean, low, high)))

    def in_words(self, alpha: float) -> str:
        if not self.is_measured:
            return f"{self._title} {'unknown yet' if self.count else 'not compared'}"
        e, bound = self.estimate(alpha), "at least" if self._at_least else "at most"
        return f"{self._title} {e.value:.3g} [{e.low:.3g}, {e.high:.3g}], {bound} {self.border:.3g}"

    @property
    def _title(self) -> str:
        return self.name.replace("_", " ")

    def _to_unit(self, value: float) -> float:
        return value

    def _from_unit(self, unit: float) -> float:
        return unit


class RatioCriterion(Criterion):
    """A ratio of times, whose geometric mean over the pairs of a block is one value.

    Args:
        name: Its name in metrics.
        border: The ratio that its geometric mean must lie below.
        of: Its value for a pair; None where the pair says nothing about it.
        block_s: Least seconds of a block.
    """

    def __init__(self, name: str, border: float, of: Callable[[Pair], float | None], block_s: float) -> None:
        super().__init__(name, border, of)
        self._blocks = Blocks(block_s)

    def _take(self, pair: Pair, value: float) -> None:
        block = self._blocks.add(pair.at_s, pair.seconds, self._to_unit(value))
        if block is not None:
            self._sequence.add(block)

    def _to_unit(self, value: float) -> float:
        return (1 + math.log(min(_RATIO_MAX, max(1 / _RATIO_MAX, value)), _RATIO_MAX)) / 2

    def _from_unit(self, unit: float) -> float:
        return float(_RATIO_MAX ** (2 * unit - 1))


class Judge:
    """Collects pairs until the candidate is proven to keep every border, or to break one.

    To promote wrongly, a border that is broken must be passed, so each is tested at the full `alpha`. To roll back
    wrongly, any one of them is enough, so they share it.

    Args:
        limits: What the candidate must keep.
    """

    def __init__(self, limits: Limits) -> None:
        self._alpha = limits.alpha
        slower = 1 + limits.margin
        criteria: list[Criterion] = [
            Criterion("failed_share", limits.failures_max, lambda pair: float(pair.failed)),
            RatioCriterion("latency_ratio", slower, lambda pair: pair.latency, limits.block_s),
            RatioCriterion("first_token_ratio", slower, lambda pair: pair.first_token, limits.block_s),
        ]
        if limits.agreement_min is not None:
            criteria.append(Criterion("agreement", limits.agreement_min, lambda pair: pair.agreement, at_least=True))
        self._criteria = criteria
        self._lengths = RatioCriterion("length_ratio", 1.0, lambda pair: pair.length, limits.block_s)
        self.pairs, self.greedy, self.same = 0, 0, 0

    def add(self, pairs: Iterable[Pair]) -> Verdict | None:
        """Take more pairs into account; returns the verdict once there is one."""
        before = self.pairs
        for pair in pairs:
            self._count(pair)
        return self._verdict() if self.pairs > before else None

    def _count(self, pair: Pair) -> None:
        self.pairs += 1
        self.greedy += pair.agreement is not None
        self.same += pair.agreement == 1.0
        for criterion in (*self._criteria, self._lengths):
            criterion.add(pair)

    def _verdict(self) -> Verdict | None:
        broken = [c for c in self._criteria if c.breaks(self._alpha / len(self._criteria))]
        if broken:
            return Verdict(False, self._words(broken))
        compared = [c for c in self._criteria if c.count]
        required = self._criteria[:2]  # every service has failures and latencies; the others depend on the requests
        if all(c.count for c in required) and all(c.keeps(self._alpha) for c in compared):
            return Verdict(True, self.in_words())
        return None

    def undecided(self) -> str:
        """The criteria that are not proven to be kept yet, in words."""
        return self._words([c for c in self._criteria if c.count and not c.keeps(self._alpha)]) or "no pairs"

    def estimates(self) -> dict[str, Estimate]:
        """Criterion -> what is known of it; without those that no pair has said anything about."""
        return {c.name: c.estimate(self._alpha) for c in (*self._criteria, self._lengths) if c.is_measured}

    def in_words(self) -> str:
        """Every criterion with its interval and border, and what was compared of the answers."""
        texts = f"{self.same} of {self.greedy} greedy answers the same"
        if not self.greedy:
            texts = "answers compared by length alone, as none was greedy"
        lengths = ""
        if self._lengths.is_measured:
            lengths = f", length ratio {self._lengths.estimate(self._alpha).value:.3g}"
        return f"{self._words(self._criteria)}; {texts}{lengths}"

    def _words(self, criteria: Iterable[Criterion]) -> str:
        return "; ".join(c.in_words(self._alpha) for c in criteria)
