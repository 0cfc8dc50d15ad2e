"""What the work costs: the price of an hour of the machine over what it gets done in that hour.

The throughput is measured; the price is an input (`hardware.hourly_usd`), and so is whatever follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.throughput import OutputTokenRate, RequestRate

HOUR_S = 3600.0


def cost_per(count: float, rate: Estimate, hourly_usd: float, unit: str) -> Estimate | None:
    """The price of `count` pieces of work.

    Args:
        count: Of tokens or requests.
        rate: How many of them per second, measured.
        hourly_usd: Price of an hour of the machine.
        unit: Of the result.

    Returns:
        The estimate; its upper end is infinite where the rate's interval reaches zero. None where nothing got done.
    """
    if rate.value <= 0:
        return None
    value, low, high = (
        hourly_usd / HOUR_S * count / x if x > 0 else math.inf for x in (rate.value, rate.high, rate.low)
    )
    return Estimate(value, low, high, rate.n, unit)


@dataclass
class _Cost(Objective):
    """A price over a rate.

    Attributes:
        hourly_usd: Price of the whole machine that the measurement runs on, per hour.
    """

    hourly_usd: float | None = None

    direction = Direction.MINIMIZE

    def __post_init__(self) -> None:
        check_price(self.hourly_usd)

    def _of(self, count: float, rate: Estimate) -> Estimate | None:
        assert self.hourly_usd is not None
        return cost_per(count, rate, self.hourly_usd, self.unit)


class OutputTokenCost(_Cost):
    """USD per million output tokens of answered requests."""

    unit = "USD/1M tokens"

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return self._of(1e6, OutputTokenRate().estimate(measurement))


class RequestCost(_Cost):
    """USD per thousand answered requests."""

    unit = "USD/1k requests"

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return self._of(1e3, RequestRate().estimate(measurement))


def check_price(hourly_usd: float | None) -> None:
    """Raise ValueError for what is no price.

    A price of zero is refused too: every configuration would cost the same.
    """
    if isinstance(hourly_usd, bool) or not isinstance(hourly_usd, int | float) or not 0 < hourly_usd < math.inf:
        raise ValueError(
            f"hourly_usd must be a positive price in USD, got {hourly_usd}: choose a hardware that has one, e.g. "
            "hardware=aws_g5_xlarge, or give your own, hardware.hourly_usd=1.5"
        )
