"""What follows from a row's measured capacity: the load of one replica, and the number of replicas for a rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

from objectives import Estimate
from optimize.decision.candidate import Candidate
from optimize.errors import ConfigError
from optimize.formatting import figure
from optimize.study.rows import StudyRow

CAPACITY = "capacity_per_s"
"""Metric of the largest rate of requests at which one engine keeps the service-level objective."""
_MEASURE = "measure it with python -m optimize +study=capacity"
_ROUNDING = 1e-9  # of a number of replicas: 0.7 * 10 is a little less than 7


def figures_of_engines(candidate: Candidate) -> dict[str, Estimate]:
    """The candidate's figures, with the capacity that many engines of it have on average.

    Replicas share a rate, so that what one further measurement may differ by is not what their sum differs by. Where
    there are no rounds, the capacity is that of the single measurement.
    """
    return {**candidate.estimates, **{name: e for name, e in candidate.means.items() if name == CAPACITY}}


def capacity_of(estimates: Mapping[str, Estimate]) -> Estimate | None:
    """The capacity in requests per second; None if it was not measured, or is not known to be above zero."""
    capacity = estimates.get(CAPACITY)
    return None if capacity is None or capacity.low <= 0 else capacity


def required_capacity(row: StudyRow, setting: str) -> Estimate:
    """The capacity that engines of the row have on average, in requests per second; its lower end is above zero.

    Args:
        row: The row.
        setting: The setting that needs it.

    Raises:
        ConfigError: it was not measured, is zero, or may be zero.
    """
    trial = f"{setting} needs {CAPACITY} of trial {row.candidate.number} of study {row.row.study}"
    capacity = figures_of_engines(row.candidate).get(CAPACITY)
    if capacity is None:
        raise ConfigError(f"{trial}, which was not measured: {_MEASURE}")
    if capacity.value <= 0:
        raise ConfigError(f"{trial}, which is 0: it keeps the limits under no load, so choose another row")
    if capacity.low <= 0:
        raise ConfigError(f"{trial}, whose interval ({capacity.low:.3g} to {capacity.high:.3g}) reaches 0: {_MEASURE}")
    return capacity


def is_lower_bound(capacity: Estimate) -> bool:
    """Whether the engine was never broken, so that the true capacity is at least the value."""
    return capacity.high <= capacity.value and capacity.value > 0


def capacity_in_words(capacity: Estimate) -> str:
    """The figure with its interval, and whether the engine carries still more."""
    return figure(capacity) + (", or more" if is_lower_bound(capacity) else "")


def replicas_for(rate_per_s: float, capacity: Estimate, load_share: float) -> int:
    """Replicas that carry a rate, each at this share of the lower end of its capacity's interval; at least one."""
    return max(1, math.ceil(rate_per_s / (load_share * capacity.low) - _ROUNDING))
