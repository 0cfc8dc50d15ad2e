"""When requests are due. Pure and seeded: the same profile and seed always ask for the same schedule.

A profile is either stationary, and then measured for as long as the figures need, or it has a length of its own
(`duration_s`): the engine is then warmed up at the profile's first rate, and the window is the profile, whole.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from optimize.errors import ConfigError

_LENGTHS = ("prompt_tokens", "output_tokens")


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

    @property
    def duration_s(self) -> None:
        return None

    def describe(self) -> str:
        return f"closed loop, {self.users} users" + (f", {self.think_s:g} s think time" if self.think_s else "")


class OpenLoop(Protocol):
    """Requests due at times of their own, whatever became of the ones before."""

    @property
    def duration_s(self) -> float | None:
        """Length of a profile that is measured from its start to its end; None for a stationary one."""

    @property
    def first_rate_per_s(self) -> float:
        """Requests per second that a profile of some length begins with."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        """Endless, increasing due times in seconds since the load, or the profile, began."""

    def describe(self) -> str: ...


@dataclass
class Steady:
    """Attributes: rate_per_s: Requests per second."""

    rate_per_s: float = 10.0

    def __post_init__(self) -> None:
        _require_positive("rate_per_s", self.rate_per_s)

    @property
    def duration_s(self) -> None:
        return None

    @property
    def first_rate_per_s(self) -> float:
        return self.rate_per_s


@dataclass
class Poisson(Steady):
    """Independent users: exponentially distributed gaps."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        return (unit / self.rate_per_s for unit in _poisson_units(seed))

    def describe(self) -> str:
        return f"Poisson arrivals, {self.rate_per_s:g} requests/s"


@dataclass
class Constant(Steady):
    """Equal gaps, as from a machine."""

    def due_times_s(self, seed: int) -> Iterator[float]:
        return (unit / self.rate_per_s for unit in _even_units(seed))

    def describe(self) -> str:
        return f"constant arrivals, {self.rate_per_s:g} requests/s"


@dataclass
class Steps:
    """Rates one after the other: a rush hour, a sudden crowd.

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
            _require_positive("rates_per_s", rate)
        _require_positive("step_s", self.step_s)

    @property
    def duration_s(self) -> float:
        return self.step_s * len(self.rates_per_s)

    @property
    def first_rate_per_s(self) -> float:
        return self.rates_per_s[0]

    def due_times_s(self, seed: int) -> Iterator[float]:
        return _rescaled(self._when, seed, self.random)

    def _when(self, expected: float) -> float:
        """Time by which so many requests are expected; the last rate goes on for ever."""
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
    """A rate that grows, or falls, evenly.

    Attributes:
        from_per_s: Requests per second at the start.
        to_per_s: Requests per second at the end.
        ramp_s: Seconds in between.
        random: Whether arrivals are a Poisson process of that rate, or evenly spaced.
    """

    from_per_s: float = 1.0
    to_per_s: float = 20.0
    ramp_s: float = 30.0
    random: bool = True

    def __post_init__(self) -> None:
        for name in ("from_per_s", "to_per_s", "ramp_s"):
            _require_positive(name, getattr(self, name))

    @property
    def duration_s(self) -> float:
        return self.ramp_s

    @property
    def first_rate_per_s(self) -> float:
        return self.from_per_s

    def due_times_s(self, seed: int) -> Iterator[float]:
        return _rescaled(self._when, seed, self.random)

    def _when(self, expected: float) -> float:
        """Time t by which so many requests are expected, from expected = from t + (to - from) t² / (2 ramp)."""
        on_ramp = (self.from_per_s + self.to_per_s) / 2 * self.ramp_s
        if expected >= on_ramp:
            return self.ramp_s + (expected - on_ramp) / self.to_per_s
        slope = (self.to_per_s - self.from_per_s) / self.ramp_s
        # The form of the quadratic's root that does not divide by a slope near zero.
        return 2 * expected / (self.from_per_s + math.sqrt(self.from_per_s**2 + 2 * slope * expected))

    def describe(self) -> str:
        rates = f"{self.from_per_s:g} to {self.to_per_s:g}"
        return f"{_kind(self.random)} arrivals, {rates} requests/s over {self.ramp_s:g} s"


@dataclass
class Trace:
    """Replays recorded requests: a JSONL file with `offset_s` in every line, in any order.

    Where lines also hold `prompt_tokens` or `output_tokens`, prompts and answers get these lengths.

    Attributes:
        path: The file.
        speed: Replay so many times as fast as recorded.
    """

    path: str
    speed: float = 1.0

    def __post_init__(self) -> None:
        _require_positive("speed", self.speed)
        raw = _read(Path(self.path).expanduser(), self.path)
        lines = [_recorded(line, number, self.path) for number, line in enumerate(raw.splitlines(), 1) if line.strip()]
        lines.sort(key=lambda recorded: recorded[0])
        if len(lines) < 2 or lines[-1][0] == lines[0][0]:
            raise ConfigError(f"load.arrivals.path={self.path} must hold at least two arrivals at different times")
        self._offsets_s = [(offset - lines[0][0]) / self.speed for offset, _, _ in lines]
        self.lengths: list[tuple[int | None, int | None]] = [(prompt, output) for _, prompt, output in lines]
        for part, name in enumerate(_LENGTHS):
            if len({lengths[part] is None for lengths in self.lengths}) > 1:
                raise ConfigError(
                    f"load.arrivals.path={self.path} has {name} in some lines only: give it in all or none"
                )
        self._hash = hashlib.sha256(raw.encode()).hexdigest()[:12]

    @property
    def has_lengths(self) -> bool:
        return self.lengths[0] != (None, None)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last, and a mean gap."""
        return self._offsets_s[-1] * len(self._offsets_s) / (len(self._offsets_s) - 1)

    @property
    def first_rate_per_s(self) -> float:
        return len(self._offsets_s) / self.duration_s

    def due_times_s(self, seed: int) -> Iterator[float]:
        rounds = 0
        while True:
            for offset in self._offsets_s:
                yield rounds * self.duration_s + offset
            rounds += 1

    def describe(self) -> str:
        speed = "" if self.speed == 1 else f", {self.speed:g} times as fast"
        return f"trace {Path(self.path).name} {self._hash}, {len(self._offsets_s)} requests{speed}"


@dataclass
class Burst:
    """So many requests at once, and no more: an engine's first."""

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


Arrivals = ClosedLoop | OpenLoop


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"load.arrivals.{name} must be positive, got {value}")


def _poisson_units(seed: int) -> Iterator[float]:
    """A Poisson process of rate one."""
    rng, now = random.Random(seed), 0.0
    while True:
        now += rng.expovariate(1.0)
        yield now


def _even_units(seed: int) -> Iterator[float]:
    """Arrivals one unit of time apart, beginning anywhere within the first."""
    now = random.Random(seed).random()
    while True:
        yield now
        now += 1.0


def _rescaled(when: Callable[[float], float], seed: int, randomly: bool) -> Iterator[float]:
    """A process of changing rate, from one of rate one by the inverse of the expected count.

    Source: Çinlar, "Introduction to Stochastic Processes", 1975, section 4.7.
    """
    return map(when, _poisson_units(seed) if randomly else _even_units(seed))


def _kind(randomly: bool) -> str:
    return "Poisson" if randomly else "evenly spaced"


def _read(path: Path, given: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"load.arrivals.path={given} cannot be read ({error}): give a JSONL file") from error


def _recorded(line: str, number: int, path: str) -> tuple[float, int | None, int | None]:
    try:
        row: Any = json.loads(line)
        offset, lengths = float(row["offset_s"]), [row.get(name) for name in _LENGTHS]
        if not math.isfinite(offset) or not all(n is None or (isinstance(n, int) and n >= 1) for n in lengths):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"load.arrivals.path={path}, line {number}: must be an object with a number offset_s and, if at all, whole "
            f"numbers {' and '.join(_LENGTHS)} from 1, got {line[:60]!r}"
        ) from None
    return offset, lengths[0], lengths[1]
