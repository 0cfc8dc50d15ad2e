"""When requests are due. Pure and seeded: the same profile and seed always give the same schedule.

A profile is either stationary, and then measured for as long as the figures need, or it has a length of its own
(`duration_s`): the engine is then warmed up at the profile's first rate, and the window is the whole profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from optimize.errors import ConfigError
from optimize.load.profiles import Ramp, Steps
from optimize.load.stationary import Burst, Constant, Poisson, Stationary
from optimize.load.trace import Trace

__all__ = [
    "Arrivals", "Burst", "ClosedLoop", "Constant", "OpenLoop", "Poisson", "Ramp", "Stationary", "Steps", "Trace",
]  # fmt: skip


@dataclass
class ClosedLoop:
    """A fixed number of users, each of whom sends the next request once the last is answered.

    Attributes:
        users: Concurrent users.
        think_s: Pause of each user between an answer and the next request.
        ramp_s: Seconds over which the users come, evenly; they all come at once where it is 0.
    """

    users: int = 8
    think_s: float = 0.0
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        if self.users < 1 or self.think_s < 0 or self.ramp_s < 0:
            raise ConfigError(
                f"load.arrivals: needs users >= 1, think_s >= 0 and ramp_s >= 0, got users={self.users}, "
                f"think_s={self.think_s}, ramp_s={self.ramp_s}"
            )

    def first_due_s(self, user: int) -> float:
        """When a user, counted from 0, sends the first request, in seconds since the load began."""
        return self.ramp_s * user / self.users

    @property
    def duration_s(self) -> None:
        return None

    def describe(self) -> str:
        return f"closed loop, {self.users} users" + (f", {self.think_s:g} s think time" if self.think_s else "")


class OpenLoop(Protocol):
    """Requests that are due on a schedule, whether or not earlier ones are answered."""

    @property
    def duration_s(self) -> float | None:
        """Length of a profile that is measured from start to end; None for a stationary one."""

    @property
    def first_rate_per_s(self) -> float:
        """Requests per second at the start of a profile."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        """Endless, increasing due times in seconds since the load, or the profile, began."""

    def describe(self) -> str: ...


Arrivals = ClosedLoop | OpenLoop
