"""When a trial's window may close: once its figures are precise enough, or the trial cannot matter any more. Pure."""

from __future__ import annotations

from collections.abc import Callable

from objectives import Measurement
from optimize.decision.futility import Futility
from optimize.evaluation.estimates import estimate_all, relative_half_width
from optimize.load.window import Glimpse, Hopeless, Precise
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


def hopeless(futility: Futility, plan: Plan, measured: Measured) -> Hopeless:
    """Why the trial cannot matter any more, judged by the cheap metrics alone: quality is left out."""
    names = {*futility.directions, *(limit.metric for limit in futility.limits)}
    metrics = {name: m for name, m in plan.metrics.items() if name in names and not m.same_sample}
    return lambda glimpse: futility.hopeless(estimate_all(measured(glimpse), metrics))
