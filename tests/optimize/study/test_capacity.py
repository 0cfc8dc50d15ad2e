"""What follows from a measured capacity: refusals in one line, and replicas by the interval's lower end."""

import pytest

from objectives import Estimate
from optimize.config.compose import configuration
from optimize.errors import ConfigError
from optimize.study.capacity import (
    CAPACITY,
    capacity_in_words,
    capacity_of,
    is_lower_bound,
    replicas_for,
    required_capacity,
)
from tests.optimize.rows import FIGURES, study_row

CAPACITY_PER_S = Estimate(12.0, 10.0, 14.0, 3, "1/s")


@pytest.mark.parametrize(("rate", "replicas"), [(0.5, 1), (7.0, 1), (7.01, 2), (70.0, 10), (71.0, 11)])
def test_replicas_count_on_the_lower_end_of_the_interval(rate: float, replicas: int) -> None:
    assert replicas_for(rate, CAPACITY_PER_S, 0.7) == replicas


@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        (None, r"was not measured: measure it with python -m optimize \+study=capacity"),
        (Estimate(0.0, 0.0, 0.2, 3, "1/s"), "which is 0: it keeps the limits under no load, so choose another row"),
        (Estimate(2.0, -1.0, 5.0, 3, "1/s"), r"whose interval \(-1 to 5\) reaches 0: measure it with"),
    ],
)
def test_a_capacity_that_no_rate_can_be_divided_by_is_refused(capacity: Estimate | None, message: str) -> None:
    row = study_row(figures=FIGURES | ({} if capacity is None else {CAPACITY: capacity}))
    with pytest.raises(
        ConfigError, match=f"^deploy.rate_per_s needs capacity_per_s of trial 4 of study chat, .*{message}"
    ):
        required_capacity(row, "deploy.rate_per_s")
    assert capacity_of(row.candidate.estimates) is None


def test_a_measured_capacity_is_used_as_it_is() -> None:
    row = study_row(figures=FIGURES | {CAPACITY: CAPACITY_PER_S})
    assert required_capacity(row, "x") is CAPACITY_PER_S is capacity_of(row.candidate.estimates)


def test_the_metric_is_the_one_that_the_study_of_capacity_maximizes() -> None:
    assert CAPACITY in configuration(["+study=capacity"]).objectives


def test_an_engine_that_was_never_broken_carries_at_least_its_value() -> None:
    unbroken = Estimate(12.0, 11.0, 12.0, 3, "1/s")
    assert is_lower_bound(unbroken) and not is_lower_bound(CAPACITY_PER_S)
    assert capacity_in_words(unbroken).endswith("requests/s, or more")
    assert capacity_in_words(CAPACITY_PER_S) == "12.0 (10.0–14.0) requests/s"
