"""Distributions of the pause between an answer and the user's next message, in seconds."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol

from optimize.errors import ConfigError


class ThinkTimes(Protocol):
    """A distribution of pauses."""

    def draw(self, rng: random.Random) -> float:
        """One pause in seconds, at least 0."""


@dataclass
class Fixed:
    """Always the same pause.

    Attributes:
        seconds: The pause.
    """

    seconds: float = 0.0

    def __post_init__(self) -> None:
        _require("seconds", self.seconds)

    def draw(self, rng: random.Random) -> float:
        return self.seconds


@dataclass
class Exponential:
    """Pauses without a memory.

    Attributes:
        mean_s: Mean pause.
        most_s: Longest; longer ones are set to it.
    """

    mean_s: float = 5.0
    most_s: float = 60.0

    def __post_init__(self) -> None:
        _require("mean_s", self.mean_s)
        _require("most_s", self.most_s)

    def draw(self, rng: random.Random) -> float:
        return min(self.most_s, rng.expovariate(1 / self.mean_s)) if self.mean_s else 0.0


@dataclass
class LogNormal:
    """Many short pauses and few long ones, as people read and type.

    Attributes:
        median_s: Median pause.
        sigma: Standard deviation of the logarithm.
        most_s: Longest; longer ones are set to it.
    """

    median_s: float = 5.0
    sigma: float = 0.8
    most_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("median_s", "sigma", "most_s"):
            _require(name, getattr(self, name))

    def draw(self, rng: random.Random) -> float:
        return min(self.most_s, rng.lognormvariate(math.log(self.median_s), self.sigma)) if self.median_s else 0.0


def _require(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"workload.think_time: {name} must not be negative, got {value:g}")
