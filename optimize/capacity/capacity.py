"""Capacity under a service-level objective, and the probes behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from objectives import Estimate


class Unit(StrEnum):
    """What a level of load is: a rate of arrivals (open loop), or a number of users (closed loop)."""

    PER_S = "per_s"
    USERS = "users"


class Kind(StrEnum):
    """What a search has shown of the capacity."""

    BRACKETED = "bracketed"
    ZERO = "zero"
    """The SLO fails at the lowest level."""
    AT_LEAST = "at least"
    """The SLO holds at the highest level, which the client can apply."""
    AT_MOST = "at most"
    """The search was given up, for the SLO fails at the capacity to beat."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe and its own verdict.

    Attributes:
        level: Rate per second, or users.
        load_s: Seconds of load.
        requests: Requests behind the shares, without those of the warm-up.
        shares: Criterion -> share of requests that meet it.
        holds: Whether the SLO holds at this level by this probe alone; None where it could be either.
        began_s: Seconds of load before it.
        ramp_s: Seconds in which its users came one after another.
    """

    level: float
    load_s: float
    requests: int
    shares: Mapping[str, float]
    holds: bool | None
    began_s: float
    ramp_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        figures = {"level": self.level, "load_s": self.load_s, "requests": self.requests, "began_s": self.began_s}
        return {**figures, "ramp_s": self.ramp_s, "shares": dict(self.shares), "holds": self.holds}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Probe:
        shares = {str(name): float(share) for name, share in raw["shares"].items()}
        level, load_s, began_s = float(raw["level"]), float(raw["load_s"]), float(raw["began_s"])
        return cls(level, load_s, int(raw["requests"]), shares, raw["holds"], began_s, float(raw.get("ramp_s", 0.0)))


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest level at which the SLO holds, with its 95 % interval.

    Attributes:
        unit: Of the level.
        value: The estimate; users are whole.
        low: Lower end of the interval.
        high: Upper end of the interval; infinite where the SLO holds at the highest level.
        kind: What has been shown.
        binds: What would break first above it: ttft_s, tpot_s, latency_s, errors or client; None where nothing did.
        probes: In the order in which they were run.
        steepness: Of the response, see `response`; None where it was not estimated.
        drift: Capacity at the end of the search as a ratio to that at its beginning; None where it was not estimated.
    """

    unit: Unit
    value: float
    low: float
    high: float
    kind: Kind
    binds: str | None
    probes: tuple[Probe, ...]
    steepness: float | None = None
    drift: float | None = None

    @property
    def load_s(self) -> float:
        """Seconds of load of all probes, with those in which users came."""
        return sum(probe.ramp_s + probe.load_s for probe in self.probes)

    @property
    def requests(self) -> int:
        """Requests behind the shares of all probes."""
        return sum(probe.requests for probe in self.probes)

    def differs_from(self, other: Capacity) -> bool:
        """Whether two capacities differ by more than chance, at 5 %: by the errors of both, one beside the other.

        Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach", 2008,
        section 2 (the interval of a difference from the intervals of both).
        """
        low, high = (self, other) if self.value <= other.value else (other, self)
        return high.value - low.value > math.hypot(high.value - high.low, low.high - low.value)

    def response(self, level: float, share: float) -> float | None:
        """Share of requests within the limit that binds at a level, by the curve that was fitted; None without one.

        Args:
            level: Rate per second, or users.
            share: The least share that the limit asks for.
        """
        if self.steepness is None or self.value <= 0:
            return None
        return float(share ** min((level / self.value) ** self.steepness, 1e3))

    def to_estimate(self) -> Estimate:
        """As any other figure: "at least" and "at most" have no interval to their open side."""
        unit = "1/s" if self.unit is Unit.PER_S else "users"
        high = self.high if math.isfinite(self.high) else self.value
        return Estimate(self.value, self.low, high, self.requests, unit)

    def to_dict(self) -> dict[str, Any]:
        """For a trial's record: JSON, without infinities."""
        figures = {"value": self.value, "low": self.low, "high": self.high if math.isfinite(self.high) else None}
        curve = {"steepness": self.steepness, "drift": self.drift}
        words = {"unit": str(self.unit), "kind": str(self.kind), "binds": self.binds}
        return {**words, **figures, **curve, "probes": [probe.to_dict() for probe in self.probes]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Capacity:
        high = math.inf if raw["high"] is None else float(raw["high"])
        probes = tuple(Probe.from_dict(probe) for probe in raw["probes"])
        return cls(
            Unit(raw["unit"]), float(raw["value"]), float(raw["low"]), high, Kind(raw["kind"]), raw["binds"], probes,
            raw["steepness"], raw["drift"],
        )  # fmt: skip
