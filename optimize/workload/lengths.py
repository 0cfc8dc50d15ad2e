"""Distributions of the lengths of prompts and answers, in tokens, for workloads that do not state them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol

from optimize.errors import ConfigError


class Lengths(Protocol):
    """A distribution of lengths."""

    def draw(self, rng: random.Random) -> int:
        """One length in tokens, at least 1."""


@dataclass
class Fixed:
    """Always the same length.

    Attributes:
        tokens: The length.
    """

    tokens: int = 128

    def __post_init__(self) -> None:
        _require("tokens", self.tokens, 1)

    def draw(self, rng: random.Random) -> int:
        return self.tokens


@dataclass
class Uniform:
    """Every length between two bounds, ends included, with equal probability.

    Attributes:
        low: Shortest.
        high: Longest.
    """

    low: int = 16
    high: int = 128

    def __post_init__(self) -> None:
        _require("low", self.low, 1)
        _require("high", self.high, self.low)

    def draw(self, rng: random.Random) -> int:
        return rng.randint(self.low, self.high)


@dataclass
class LogNormal:
    """Many short and few long ones, as in conversations; lengths outside the bounds are set to the nearer bound.

    Attributes:
        median: Median length.
        sigma: Standard deviation of the logarithm; 0.5 to 1 is common.
        low: Shortest.
        high: Longest.
    """

    median: float = 64.0
    sigma: float = 0.6
    low: int = 1
    high: int = 1024

    def __post_init__(self) -> None:
        _require("median", self.median, 1)
        _require("sigma", self.sigma, 0)
        _require("low", self.low, 1)
        _require("high", self.high, self.low)

    def draw(self, rng: random.Random) -> int:
        return round(min(max(rng.lognormvariate(math.log(self.median), self.sigma), self.low), self.high))


def _require(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ConfigError(f"workload lengths: {name} must be at least {least:g}, got {value:g}")
