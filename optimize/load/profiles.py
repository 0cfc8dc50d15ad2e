"""Open loops whose rate changes over a length of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from optimize.errors import ConfigError
from optimize.load.stationary import even_units, poisson_units, require_positive


@dataclass
class Steps:
    """A sequence of rates: a rush hour, a sudden crowd.

    Attributes:
        rates_per_s: Requests per second of each step.
        step_s: Seconds that each step lasts.
        random: Whether arrivals are a Poisson process of that rate, or evenly spaced.
    """

    rates_per_s: list[float] = field(default_factory=lambda: [2.0, 10.0, 2.0])
    step_s: float = 10.0
    random: bool = True

    def __post_init__(self) -> None:
        if not self.rates_per_s:
            raise ConfigError("load.arrivals.rates_per_s is empty: give at least one rate")
        for rate in self.rates_per_s:
            require_positive("rates_per_s", rate)
        require_positive("step_s", self.step_s)

    @property
    def duration_s(self) -> float:
        return self.step_s * len(self.rates_per_s)

    @property
    def first_rate_per_s(self) -> float:
        return self.rates_per_s[0]

    def due_times_s(self, seed: int) -> Iterator[float]:
        return _rescaled(self._when, seed, self.random)

    def _when(self, expected: float) -> float:
        """Time by which a number of requests is expected; the last rate goes on for ever."""
        for number, rate in enumerate(self.rates_per_s):
            if expected < rate * self.step_s or number == len(self.rates_per_s) - 1:
                return number * self.step_s + expected / rate
            expected -= rate * self.step_s
        raise AssertionError

    def describe(self) -> str:
        rates = ", ".join(f"{rate:g}" for rate in self.rates_per_s)
        return f"{_kind(self.random)} arrivals, steps of {self.step_s:g} s at {rates} requests/s"


@dataclass
class Ramp:
    """A rate that rises or falls linearly.

    Attributes:
        from_per_s: Requests per second at the start.
        to_per_s: Requests per second at the end.
        ramp_s: Seconds from start to end.
        random: Whether arrivals are a Poisson process of that rate, or evenly spaced.
    """

    from_per_s: float = 1.0
    to_per_s: float = 20.0
    ramp_s: float = 30.0
    random: bool = True

    def __post_init__(self) -> None:
        for name in ("from_per_s", "to_per_s", "ramp_s"):
            require_positive(name, getattr(self, name))

    @property
    def duration_s(self) -> float:
        return self.ramp_s

    @property
    def first_rate_per_s(self) -> float:
        return self.from_per_s

    def due_times_s(self, seed: int) -> Iterator[float]:
        return _rescaled(self._when, seed, self.random)

    def _when(self, expected: float) -> float:
        """Time t by which a number of requests is expected, from expected = from t + (to - from) t² / (2 ramp)."""
        on_ramp = (self.from_per_s + self.to_per_s) / 2 * self.ramp_s
        if expected >= on_ramp:
            return self.ramp_s + (expected - on_ramp) / self.to_per_s
        slope = (self.to_per_s - self.from_per_s) / self.ramp_s
        # The form of the quadratic's root that does not divide by a slope near zero.
        return 2 * expected / (self.from_per_s + math.sqrt(self.from_per_s**2 + 2 * slope * expected))

    def describe(self) -> str:
        rates = f"{self.from_per_s:g} to {self.to_per_s:g}"
        return f"{_kind(self.random)} arrivals, {rates} requests/s over {self.ramp_s:g} s"


def _rescaled(when: Callable[[float], float], seed: int, randomly: bool) -> Iterator[float]:
    """A process of changing rate: one of rate one, mapped by the inverse of the expected count.

    Source: Çinlar, "Introduction to Stochastic Processes", 1975, section 4.7.
    """
    return map(when, poisson_units(seed) if randomly else even_units(seed))


def _kind(randomly: bool) -> str:
    return "Poisson" if randomly else "evenly spaced"
