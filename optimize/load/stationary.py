"""Open loops whose rate does not change, and the processes of rate one behind them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from optimize.errors import ConfigError


@dataclass
class Stationary:
    """Arrivals at one rate.

    Attributes:
        rate_per_s: Requests per second.
    """

    rate_per_s: float = 10.0

    def __post_init__(self) -> None:
        require_positive("rate_per_s", self.rate_per_s)

    @property
    def duration_s(self) -> None:
        return None

    @property
    def first_rate_per_s(self) -> float:
        return self.rate_per_s


@dataclass
class Poisson(Stationary):
    """Independent users: exponentially distributed gaps."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        return (unit / self.rate_per_s for unit in poisson_units(seed))

    def describe(self) -> str:
        return f"Poisson arrivals, {self.rate_per_s:g} requests/s"


@dataclass
class Constant(Stationary):
    """Equal gaps, as a machine sends."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        return (unit / self.rate_per_s for unit in even_units(seed))

    def describe(self) -> str:
        return f"constant arrivals, {self.rate_per_s:g} requests/s"


@dataclass
class Burst:
    """A number of requests at once, and no more: the first that an engine gets.

    Attributes:
        requests: How many.
    """

    requests: int

    @property
    def duration_s(self) -> None:
        return None

    @property
    def first_rate_per_s(self) -> float:
        return float(self.requests)

    def due_times_s(self, seed: int) -> Iterator[float]:
        return itertools.repeat(0.0, self.requests)

    def describe(self) -> str:
        return f"{self.requests} requests at once"


def require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"load.arrivals.{name} must be positive, got {value}")


def poisson_units(seed: int) -> Iterator[float]:
    """A Poisson process of rate one."""
    rng, now = random.Random(seed), 0.0
    while True:
        now += rng.expovariate(1.0)
        yield now


def even_units(seed: int) -> Iterator[float]:
    """Arrivals one unit of time apart; the first lies anywhere within the first unit."""
    now = random.Random(seed).random()
    while True:
        yield now
        now += 1.0
