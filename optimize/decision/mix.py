"""One configuration for several kinds of traffic: the one that gives up least. Pure.

Each kind k of traffic has a study of its own, with a recommendation of its own. What a configuration c costs it is

    cost_k(c) = score_k(recommendation of k) / score_k(c),

the factor by which k would be served better by its own recommendation. Over a mix with shares w_k the costs are
averaged as scores are, geometrically: cost(c) = prod_k cost_k(c) ** w_k. Its logarithm is the expected regret, and the
configuration with the least is taken. Regret: Savage, "The theory of statistical decision", 1951.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from objectives import Estimate
from objectives.intervals import log_half
from optimize.decision.evidence import NO_GAIN


class Traffic(Protocol):
    """One kind of traffic, and what its study says of engines.

    Attributes:
        name: Name of the study.
        share: Its part of the mix; the shares of all kinds add up to 1.
        own: The engine that its study recommends.
        defaults: The engine of vLLM's defaults.
    """

    @property
    def name(self) -> str: ...

    @property
    def share(self) -> float: ...

    @property
    def own(self) -> str: ...

    @property
    def defaults(self) -> str: ...

    @property
    def engines(self) -> Sequence[str]:
        """Keys of the engines that were measured, and keep every constraint of this traffic."""

    def ratio(self, one: str, other: str) -> Estimate:
        """The score of one engine over that of another, with its interval; `NO_GAIN` where it cannot be formed."""


@dataclass(frozen=True)
class Compromise:
    """An engine that serves the whole mix.

    Attributes:
        engine: Its key.
        costs: Kind of traffic -> how many times better its own recommendation serves it.
        gains: Kind of traffic -> how many times better than vLLM's defaults this engine serves it.
        cost: The costs over the mix.
        gain: The gains over the mix.
    """

    engine: str
    costs: dict[str, Estimate]
    gains: dict[str, Estimate]
    cost: Estimate
    gain: Estimate


def compromises(traffic: Sequence[Traffic]) -> list[Compromise]:
    """All engines that keep the constraints of every kind of traffic, the one with the least regret first."""
    common = [engine for engine in traffic[0].engines if all(engine in t.engines for t in traffic[1:])]
    every = [_compromise(engine, traffic) for engine in common]
    return sorted((c for c in every if c.cost.value > 0), key=lambda c: c.cost.value)


def tied(one: Compromise, other: Compromise, traffic: Sequence[Traffic]) -> bool:
    """Whether the evidence does not tell two compromises apart."""
    ratio = _over_mix(traffic, lambda t: t.ratio(one.engine, other.engine))
    return ratio.low <= 1.0 <= ratio.high


def _compromise(engine: str, traffic: Sequence[Traffic]) -> Compromise:
    costs = {t.name: t.ratio(t.own, engine) for t in traffic}
    gains = {t.name: t.ratio(engine, t.defaults) for t in traffic}
    return Compromise(
        engine, costs, gains, _over_mix(traffic, lambda t: costs[t.name]), _over_mix(traffic, lambda t: gains[t.name])
    )


def _over_mix(traffic: Sequence[Traffic], ratio_of: Callable[[Traffic], Estimate]) -> Estimate:
    """Weighted geometric mean of ratios. Studies are independent: their half-widths add in squares (delta method)."""
    ratios = [(t.share, ratio_of(t)) for t in traffic]
    if not all(ratio.value > 0 for _, ratio in ratios):
        return NO_GAIN
    middle = sum(share * math.log(ratio.value) for share, ratio in ratios)
    half = math.hypot(*(share * log_half(ratio) for share, ratio in ratios))
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half), len(ratios), "x")
