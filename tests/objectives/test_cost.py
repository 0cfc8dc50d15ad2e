"""Price over throughput."""

import math

import pytest

from objectives import Estimate
from objectives.base import Direction, Measurement, RequestRecord
from objectives.cost import OutputTokenCost, RequestCost, cost_per


def _record(done_s: float, tokens: int) -> RequestRecord:
    return RequestRecord(0, done_s - 0.1, done_s - 0.1, done_s - 0.05, done_s, 3, tokens, "a")


def _measurement(per_s: int, seconds: int = 10) -> Measurement:
    records = [_record((i + 0.5) / per_s, 20) for i in range(per_s * seconds)]
    return Measurement(records, 0.0, float(seconds), {})


def test_an_hour_of_ten_requests_a_second() -> None:
    cost = RequestCost(3.6).estimate(_measurement(10))
    assert cost is not None and cost.value == pytest.approx(3.6 / 36000 * 1000)
    tokens = OutputTokenCost(3.6).estimate(_measurement(10))
    assert tokens is not None and tokens.value == pytest.approx(3.6 / (36000 * 20) * 1e6)
    assert tokens.unit == "USD/1M tokens" and OutputTokenCost(1).direction is Direction.MINIMIZE


def test_twice_the_throughput_is_half_the_cost() -> None:
    once, twice = (RequestCost(1.0).estimate(_measurement(n)) for n in (10, 20))
    assert once is not None and twice is not None and twice.value == pytest.approx(once.value / 2)


def test_the_interval_is_the_inverse_of_the_rates() -> None:
    cost = cost_per(1000, Estimate(10, 5, 20, 7, "1/s"), 36.0, "USD")
    assert cost == Estimate(1.0, 0.5, 2.0, 7, "USD")


def test_a_rate_that_may_be_zero_has_no_upper_bound() -> None:
    cost = cost_per(1, Estimate(10, 0, 20, 7, "1/s"), 1.0, "USD")
    assert cost is not None and cost.high == math.inf


def test_work_of_nothing_has_no_cost() -> None:
    assert RequestCost(1.0).estimate(Measurement([], 0, 10, {})) is None


@pytest.mark.parametrize("price", [None, 0, -1.5, math.inf, math.nan, True])
def test_a_value_that_is_no_price_is_refused(price: float | None) -> None:
    with pytest.raises(ValueError, match="must be a positive price in USD"):
        RequestCost(price)
