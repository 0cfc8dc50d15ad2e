"""Cost of the work: the price of an hour of the machine over the work of that hour.

The throughput is measured; the price is an input (`hardware.hourly_usd`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.throughput import OutputTokenRate, RequestRate

HOUR_S = 3600.0


def cost_per(count: float, rate: Estimate, hourly_usd: float, unit: str) -> Estimate | None:
    """Price of a number of tokens or requests.

    Args:
        count: Number of tokens or requests.
        rate: Measured tokens or requests per second.
        hourly_usd: Price of an hour of the machine.
        unit: Unit of the result.

    Returns:
        The estimate; its upper end is infinite where the rate's interval reaches zero. None where the rate is zero.
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

    def _of(self, count: float, rate: Estimate | None) -> Estimate | None:
        assert self.hourly_usd is not None
        return None if rate is None else cost_per(count, rate, self.hourly_usd, self.unit)


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
    """Raise ValueError unless it is a price.

    A price of zero is refused too: every configuration would cost the same.
    """
    if isinstance(hourly_usd, bool) or not isinstance(hourly_usd, int | float) or not 0 < hourly_usd < math.inf:
        raise ValueError(
            f"hourly_usd must be a positive price in USD, got {hourly_usd}: choose a hardware that has one, e.g. "
            "hardware=aws_g5_xlarge, or give your own, hardware.hourly_usd=1.5"
        )
