"""The configuration that gives up least over a mix of traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from objectives import Estimate
from optimize.decision.mix import compromises, tied


@dataclass(frozen=True)
class Scores:
    """Traffic whose scores are known, each ratio with a half-width in logarithms."""

    name: str
    share: float
    own: str
    scores: Mapping[str, float]
    half: float = 0.01
    defaults: str = "defaults"

    @property
    def engines(self) -> Sequence[str]:
        return list(self.scores)

    def ratio(self, one: str, other: str) -> Estimate:
        value = {"defaults": 1.0, **self.scores}[one] / {"defaults": 1.0, **self.scores}[other]
        return Estimate(value, value * math.exp(-self.half), value * math.exp(self.half), 3, "x")


CHAT = Scores("chat", 0.6, "small", {"defaults": 1.0, "small": 2.0, "middle": 1.8, "large": 1.0})
BULK = Scores("bulk", 0.4, "large", {"defaults": 1.0, "small": 0.5, "middle": 1.5, "large": 2.0})


def test_the_configuration_with_the_least_regret_comes_first() -> None:
    best, *others = compromises([CHAT, BULK])
    assert best.engine == "middle"
    assert best.costs["chat"].value == pytest.approx(2.0 / 1.8) and best.costs["bulk"].value == pytest.approx(2 / 1.5)
    assert best.cost.value == pytest.approx((2.0 / 1.8) ** 0.6 * (2 / 1.5) ** 0.4)
    assert best.gain.value == pytest.approx(1.8**0.6 * 1.5**0.4)
    assert [c.engine for c in others] == ["large", "small", "defaults"]


def test_the_shares_decide() -> None:
    def best(chat: float) -> str:
        mix = [Scores("chat", chat, "small", CHAT.scores), Scores("bulk", 1 - chat, "large", BULK.scores)]
        return compromises(mix)[0].engine

    assert (best(0.99), best(0.6), best(0.01)) == ("small", "middle", "large")


def test_what_breaks_a_constraint_of_one_traffic_is_no_compromise() -> None:
    strict = Scores("bulk", 0.4, "large", {"large": 2.0})
    assert [c.engine for c in compromises([CHAT, strict])] == ["large"]
    assert compromises([CHAT, Scores("bulk", 0.4, "huge", {"huge": 2.0})]) == []


def test_intervals_of_independent_studies_add_in_squares() -> None:
    best = compromises([CHAT, BULK])[0]
    assert math.log(best.cost.high / best.cost.value) == pytest.approx(0.01 * math.hypot(0.6, 0.4), rel=0.01)


def test_two_compromises_are_tied_where_the_interval_of_their_ratio_holds_1() -> None:
    def verdict(half: float) -> bool:
        mix = [Scores("chat", 0.6, "small", CHAT.scores, half), Scores("bulk", 0.4, "large", BULK.scores, half)]
        first, second = compromises(mix)[:2]
        return tied(first, second, mix)

    assert not verdict(0.01) and verdict(1.0)
