"""When a trial's window may close: once its figures are precise enough. Pure."""

from __future__ import annotations

from collections.abc import Callable

from objectives import Measurement
from optimize.evaluation.estimates import relative_half_width
from optimize.load.window import Glimpse, Precise
from optimize.plan import Plan

Measured = Callable[[Glimpse], Measurement]


def precise(plan: Plan, measured: Measured) -> Precise:
    """Whether every metric named in `load.precision` has an interval narrow enough."""
    targets = plan.config.load.precision

    def is_precise(glimpse: Glimpse) -> bool:
        measurement = measured(glimpse)
        estimates = {name: plan.metrics[name].estimate(measurement) for name in targets}
        return all(e is None or relative_half_width(e) <= targets[name] for name, e in estimates.items())

    return is_precise
