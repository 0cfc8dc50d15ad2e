"""Estimates of several metrics from one measurement, and the precision of one."""

from __future__ import annotations

from collections.abc import Mapping

from objectives import Estimate, Measurement, Objective
from optimize.errors import OptimizeError


def relative_half_width(estimate: Estimate) -> float:
    """Half of the interval as a share of the value; infinite at a value of zero, unless it is exact."""
    half = (estimate.high - estimate.low) / 2
    return half / abs(estimate.value) if estimate.value else (0.0 if half == 0 else float("inf"))


def estimate_all(measurement: Measurement, metrics: Mapping[str, Objective]) -> dict[str, Estimate]:
    """Metric -> figure, of every metric that applies.

    Raises:
        OptimizeError: a user's function cannot score an answer.
    """
    estimates = {}
    for name, metric in metrics.items():
        try:
            estimates[name] = metric.estimate(measurement)
        except ValueError as error:
            raise OptimizeError(f"{name}: {error}") from error
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}
