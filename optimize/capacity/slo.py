"""The service-level objective that a load must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from optimize.capacity.requests import Flags, Requests

JOINT, ERRORS = "joint", "errors"


class Quantity(StrEnum):
    """What a limit holds for; the values are the names in `objectives.RequestRecord`."""

    TTFT = "ttft_s"
    TPOT = "tpot_s"
    LATENCY = "latency_s"


@dataclass(frozen=True, slots=True)
class SloLimit:
    """A limit at a quantile: "P99 of TTFT is at most 1 s" says that 99 % of the requests are within 1 s.

    Attributes:
        quantity: What is limited.
        most_s: The limit in seconds, above 0.
        share: The least share of requests within the limit, between 0 and 1.
    """

    quantity: Quantity
    most_s: float
    share: float = 0.99

    def __post_init__(self) -> None:
        if not self.most_s > 0:
            raise ValueError(f"the limit of {self.quantity} must be above 0 s, not {self.most_s:g}")
        _require_share(f"the share of requests within the limit of {self.quantity}", self.share)


@dataclass(frozen=True, slots=True)
class Slo:
    """A service-level objective: what each of its criteria asks is a least share of requests.

    A failed request is within no limit.

    Attributes:
        limits: At least one, each quantity at most once.
        joint_share: The least share of requests that are within all limits at once (goodput); where it is set, the
            limits' own shares do not count.
        errors: The largest share of failed requests.
    """

    limits: tuple[SloLimit, ...]
    joint_share: float | None = None
    errors: float = 0.01

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError("an SLO needs a limit: of ttft_s, tpot_s or latency_s")
        if len({limit.quantity for limit in self.limits}) < len(self.limits):
            raise ValueError("an SLO limits each quantity once")
        if self.joint_share is not None:
            _require_share("the share of requests within all limits", self.joint_share)
        _require_share("the largest share of failed requests", self.errors)

    def criteria(self) -> dict[str, float]:
        """Name of each criterion -> least share of requests that meet it."""
        if self.joint_share is not None:
            shares = {JOINT: self.joint_share}
        else:
            shares = {str(limit.quantity): limit.share for limit in self.limits}
        return shares | {ERRORS: 1 - self.errors}

    @property
    def wait_max_s(self) -> float:
        """The longest wait within the limits; 0 where none of them limits a wait.

        An engine that is asked for an x-th more than it can answer has a queue that grows by x seconds of waiting a
        second (a fluid queue: Newell, "Applications of Queueing Theory", 1982, chapter 2). Until it has grown to the
        limit, that level looks like one within the capacity.
        """
        return max((limit.most_s for limit in self.limits if limit.quantity is not Quantity.TPOT), default=0.0)

    def within(self, requests: Requests) -> dict[str, Flags]:
        """Name of each criterion -> which requests meet it; one in flight meets none of the limits."""
        met = self.limits_met(requests)
        if self.joint_share is not None:
            met = {JOINT: np.logical_and.reduce(list(met.values()))}
        return met | {ERRORS: ~requests.failed}

    def limits_met(self, requests: Requests) -> dict[str, Flags]:
        """Quantity -> which requests are within its limit. An answer of a single token has no TPOT and is within."""
        answered = ~(requests.failed | requests.in_flight)
        met = {}
        for limit in self.limits:
            times = getattr(requests, limit.quantity)
            short = np.isnan(times) if limit.quantity is Quantity.TPOT else False
            met[str(limit.quantity)] = answered & ((times <= limit.most_s) | short)
        return met

    def to_dict(self) -> dict[str, Any]:
        limits = [{"quantity": str(x.quantity), "most_s": x.most_s, "share": x.share} for x in self.limits]
        return {"limits": limits, "joint_share": self.joint_share, "errors": self.errors}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Slo:
        limits = (SloLimit(Quantity(x["quantity"]), float(x["most_s"]), float(x["share"])) for x in raw["limits"])
        return cls(tuple(limits), raw["joint_share"], float(raw["errors"]))


def _require_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {share:g}")
