"""When requests are due. Pure and seeded: the same profile and seed always ask for the same schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from optimize.errors import ConfigError


@dataclass
class ClosedLoop:
    """A fixed number of users, each sending its next request when its last was answered.

    Attributes:
        users: Concurrent users.
        think_s: Pause of each user between answer and next request.
    """

    users: int = 8
    think_s: float = 0.0

    def __post_init__(self) -> None:
        if self.users < 1 or self.think_s < 0:
            raise ConfigError(
                f"load.arrivals: needs users >= 1 and think_s >= 0, got users={self.users}, think_s={self.think_s}"
            )

    def describe(self) -> str:
        return f"closed loop, {self.users} users" + (f", {self.think_s:g} s think time" if self.think_s else "")


class OpenLoop(Protocol):
    """Requests due at times of their own, whatever became of the ones before."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        """Endless, increasing due times in seconds since the load began."""

    def describe(self) -> str: ...


@dataclass
class Poisson:
    """Independent users: exponentially distributed gaps.

    Attributes:
        rate_per_s: Mean requests per second.
    """

    rate_per_s: float = 10.0

    def __post_init__(self) -> None:
        if self.rate_per_s <= 0:
            raise ConfigError(f"load.arrivals.rate_per_s must be positive, got {self.rate_per_s}")

    def due_times_s(self, seed: int) -> Iterator[float]:
        rng, now = random.Random(seed), 0.0
        while True:
            now += rng.expovariate(self.rate_per_s)
            yield now

    def describe(self) -> str:
        return f"Poisson arrivals, {self.rate_per_s:g} requests/s"


Arrivals = ClosedLoop | OpenLoop
