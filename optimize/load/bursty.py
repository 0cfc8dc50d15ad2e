"""Arrivals less regular than those of independent users: heavy-tailed gaps and groups. Pure and seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from optimize.errors import ConfigError
from optimize.load.stationary import Stationary


@dataclass
class HeavyTailed(Stationary):
    """Gaps with a Pareto (Lomax) distribution: long silences with crowds between them.

    Attributes:
        shape: Tail index; the gaps have an infinite variance up to 2, and an infinite mean up to 1.

    Source: Paxson and Floyd, "Wide-area traffic: the failure of Poisson modeling", 1995.
    """

    shape: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shape > 1:
            raise ConfigError(f"load.arrivals.shape must be above 1, or the gaps have no mean, got {self.shape:g}")

    def due_times_s(self, seed: int) -> Iterator[float]:
        rng, now, scale = random.Random(seed), 0.0, (self.shape - 1) / self.rate_per_s
        while True:
            now += scale * (rng.paretovariate(self.shape) - 1)
            yield now

    def describe(self) -> str:
        return f"heavy-tailed arrivals (Pareto, {self.shape:g}), {self.rate_per_s:g} requests/s"


@dataclass
class Bursts(Stationary):
    """Groups of simultaneous requests; the groups arrive as independent users do.

    Attributes:
        together: Requests per group.
    """

    together: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.together < 1:
            raise ConfigError(f"load.arrivals.together must be at least 1, got {self.together}")

    def due_times_s(self, seed: int) -> Iterator[float]:
        rng, now = random.Random(seed), 0.0
        while True:
            now += rng.expovariate(self.rate_per_s / self.together)
            for _ in range(self.together):
                yield now

    def describe(self) -> str:
        return f"groups of {self.together} at once, {self.rate_per_s:g} requests/s"
