"""Service-level objectives as constraints: by how much each is kept or broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives import Estimate
from optimize.config.measuring import Bound
from optimize.errors import ConfigError, closest

RUNS = "runs"
"""Name of every trial's first constraint: whether the configuration can be measured at all."""
UNMEASURED = 1.0
_LATENCIES = ("p50_latency_s", "p90_latency_s", "p99_latency_s")
_HOPELESS_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One side of one bound.

    Attributes:
        metric: The bounded metric.
        upper: Whether the limit is a highest value.
        value: The limit itself, or the multiple of the baseline's figure.
        relative: Whether `value` is such a multiple.
    """

    metric: str
    upper: bool
    value: float
    relative: bool

    @property
    def name(self) -> str:
        sign = "<=" if self.upper else ">="
        return f"{self.metric} {sign} {self.value:g}" + (" x baseline" if self.relative else "")

    def violation(self, figure: float, baseline: float | None) -> float:
        """By what share of the limit the figure exceeds it; zero or less keeps it."""
        limit = self.value * baseline if self.relative and baseline is not None else self.value
        if self.relative and baseline is None:
            return 0.0  # the baseline itself has nothing to be compared with
        beyond = figure - limit if self.upper else limit - figure
        return beyond / abs(limit) if limit else beyond


def read_bounds(nodes: Mapping[str, Any]) -> dict[str, Bound]:
    """Metric -> bound, from the configuration; a node of null is no bound.

    Raises:
        ConfigError: something that is no mapping of min, max, min_ratio and max_ratio to numbers.
    """
    fields = [f.name for f in dataclasses.fields(Bound)]
    bounds: dict[str, Bound] = {}
    for metric, node in nodes.items():
        if node is None:
            continue
        if not isinstance(node, Mapping):
            raise ConfigError(f"constraints.{metric} must be a mapping, e.g. {{max: 1.0}}, got {node!r}")
        for key, value in node.items():
            if key not in fields:
                raise ConfigError(f"constraints.{metric}.{key} is no limit; {closest(str(key), fields)}")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(f"constraints.{metric}.{key} must be a number, got {value!r}")
        bounds[metric] = Bound(**node)
    return bounds


def make_limits(bounds: Mapping[str, Bound], metrics: Mapping[str, object]) -> list[Limit]:
    """All limits of a study, in a fixed order.

    Raises:
        ConfigError: unknown metric, no limit given, or limits that contradict each other.
    """
    limits: list[Limit] = []
    for metric, bound in sorted(bounds.items()):
        if metric not in metrics:
            raise ConfigError(
                f"constraints.{metric} is no metric of this study (constraints.{metric}=null removes it); "
                f"{closest(metric, metrics)}"
            )
        _check(metric, bound)
        for value, upper, relative in (
            (bound.min, False, False), (bound.max, True, False),
            (bound.min_ratio, False, True), (bound.max_ratio, True, True),
        ):  # fmt: skip
            if value is not None:
                limits.append(Limit(metric, upper, value, relative))
    return limits


def _check(metric: str, bound: Bound) -> None:
    if all(v is None for v in (bound.min, bound.max, bound.min_ratio, bound.max_ratio)):
        raise ConfigError(f"constraints.{metric} sets no limit: give min, max, min_ratio or max_ratio")
    for low, high, names in (
        (bound.min, bound.max, "min/max"),
        (bound.min_ratio, bound.max_ratio, "min_ratio/max_ratio"),
    ):
        if low is not None and high is not None and low > high:
            raise ConfigError(
                f"constraints.{metric} contradicts itself: {names} are {low:g} and {high:g}, so nothing can keep "
                "both; lower the first or raise the second"
            )
    if bound.max is not None and bound.max < 0:
        raise ConfigError(f"constraints.{metric}.max={bound.max:g}: no metric is negative; give a limit from 0")


def violations(
    limits: Sequence[Limit], estimates: Mapping[str, Estimate], baseline: Mapping[str, Estimate] | None,
    ratios: Mapping[str, Estimate] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Constraint name -> violation (zero or less is kept), `RUNS` first; a metric that was not measured is violated.

    Args:
        limits: All limits of the study.
        estimates: Metric -> figure.
        baseline: Metric -> figure of the baseline.
        ratios: Metric -> ratio to the baseline's on the answers that both gave, where there is one: figures on other
            prompts than the baseline's, or on a few of them, are not held against it.
    """
    by_name = {RUNS: -1.0}
    for limit in limits:
        ratio = (ratios or {}).get(limit.metric)
        if limit.relative and ratio is not None and baseline is not None:
            by_name[limit.name] = limit.violation(ratio.value, 1.0)
            continue
        figure = estimates.get(limit.metric)
        reference = baseline.get(limit.metric) if baseline is not None else None
        by_name[limit.name] = (
            UNMEASURED if figure is None else limit.violation(figure.value, reference.value if reference else None)
        )
    return by_name


def broken_without_figures(limits: Sequence[Limit], too_slow: bool) -> dict[str, float]:
    """Constraint name -> violation of a configuration that gave no measurement.

    `RUNS` is broken, and so are the limits on latency if it was too slow; the others count as just kept.
    """
    by_name = {
        limit.name: UNMEASURED if too_slow and limit.upper and limit.metric in _LATENCIES else 0.0 for limit in limits
    }
    return {RUNS: UNMEASURED, **by_name}


def hopeless_after_s(limits: Sequence[Limit]) -> float | None:
    """Seconds under load without any answer after which a latency limit counts as broken beyond hope.

    Three times the lowest absolute limit on a latency; None where there is none.
    """
    latencies_s = [x.value for x in limits if x.metric in _LATENCIES and x.upper and not x.relative]
    return min(latencies_s) * _HOPELESS_FACTOR if latencies_s else None
