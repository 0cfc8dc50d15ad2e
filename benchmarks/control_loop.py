"""Kubernetes' horizontal autoscaler as a control loop in virtual time, fed by a manifest as it was written.

Sources: the algorithm of the HorizontalPodAutoscaler in Kubernetes' documentation ("Algorithm details", "Configurable
scaling behavior"), with its defaults: a decision every 15 s, a tolerance of a tenth, up by at most 4 Pods or by
doubling in 15 s, down by the largest need of the last 300 s. KEDA hands its trigger to such an autoscaler.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.replicas import Reading

SYNC_S, SCRAPE_S = 15.0, 15.0
_TOLERANCE, _PODS, _FACTOR, _HOLD_S = 0.1, 4, 2, 300.0
_CPU_WINDOW_S = 30.0

History = Sequence[Reading]
"""Readings of one replica, the latest last."""


@dataclass
class Limits:
    """How far and how fast an autoscaler may go.

    Attributes:
        least: Fewest replicas.
        most: Most replicas.
        hold_s: Seconds of which the largest need counts before replicas are removed.
    """

    least: int
    most: int
    hold_s: float = _HOLD_S
    _needs: deque[tuple[float, int]] = field(default_factory=deque)

    def bounded(self, at_s: float, current: int, need: int) -> int:
        """Replicas after one decision."""
        self._needs.append((at_s, need))
        while self._needs[0][0] < at_s - self.hold_s:
            self._needs.popleft()
        if need < current:
            need = min(current, max(n for _, n in self._needs))
        return max(self.least, min(self.most, need, max(current + _PODS, current * _FACTOR)))


@dataclass
class RateRule:
    """The rule of a written ScaledObject: requests per second over its threshold.

    Attributes:
        threshold_per_s: Requests per second for each replica.
        window_s: Window of the rates.
        work_off_s: Seconds in which waiting requests are to be worked off.
        limits: Its limits.
    """

    threshold_per_s: float
    window_s: float
    work_off_s: float
    limits: Limits

    @classmethod
    def of(cls, scaled_object: Mapping[str, Any]) -> RateRule:
        """The rule of a ScaledObject.

        Raises:
            ValueError: its query is not the one that bundles contain.
        """
        spec = scaled_object["spec"]
        trigger = spec["triggers"][0]["metadata"]
        query = re.fullmatch(_QUERY, trigger["query"])
        if query is None:
            raise ValueError(f"not the query of a bundle: {trigger['query']}")
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        if behavior["scaleUp"] != {"stabilizationWindowSeconds": 0}:
            raise ValueError(f"this loop scales up at once, unlike {behavior['scaleUp']}")
        limits = Limits(
            spec["minReplicaCount"], spec["maxReplicaCount"], behavior["scaleDown"]["stabilizationWindowSeconds"]
        )
        return cls(float(trigger["threshold"]), float(query["window"]), float(query["work_off"]), limits)

    def reading(self, replicas: Sequence[History]) -> float:
        """The value of the query."""
        windows = [[r for r in history if r.at_s > history[-1].at_s - self.window_s] for history in replicas]
        arrivals = sum(_rate(w) + _slope(w, _in_engine) for w in windows if len(w) > 1)
        return arrivals + sum(history[-1].waiting for history in replicas) / self.work_off_s

    def replicas(self, at_s: float, current: int, serving: Sequence[History]) -> int:
        """Replicas after a decision (GetExternalPerPodMetricReplicas of Kubernetes' replica calculator)."""
        value = self.reading(serving)
        need = math.ceil(value / self.threshold_per_s)
        if abs(value / (self.threshold_per_s * current) - 1) <= _TOLERANCE:
            need = current
        return self.limits.bounded(at_s, current, need)


_SERIES = r"\{model_name=\"[^\"]*\"\}"
_QUERY = (
    rf"sum \(rate\(vllm:request_success_total{_SERIES}\[(?P<window>\d+)s\]\)\)"
    rf" \+ sum \(deriv\(vllm:num_requests_running{_SERIES}\[(?P=window)s\]\)\)"
    rf" \+ sum \(deriv\(vllm:num_requests_waiting{_SERIES}\[(?P=window)s\]\)\)"
    rf" \+ sum \(vllm:num_requests_waiting{_SERIES}\) / (?P<work_off>[\d.]+)"
)


@dataclass
class QueueRule:
    """Requests that wait, over a number of them for each replica: the usual guess.

    Attributes:
        threshold: Waiting requests for each replica.
        limits: Its limits.
    """

    threshold: float
    limits: Limits

    def replicas(self, at_s: float, current: int, serving: Sequence[History]) -> int:
        value = float(sum(history[-1].waiting for history in serving))
        need = math.ceil(value / self.threshold)
        if abs(value / (self.threshold * current) - 1) <= _TOLERANCE:
            need = current
        return self.limits.bounded(at_s, current, need)


@dataclass
class CpuRule:
    """A share of the CPU that each Pod requests.

    Attributes:
        target: The share.
        limits: Its limits.
        full_tokens_per_s: Tokens per second at which a Pod uses what it requests; None: it uses that whenever it
            computes anything, as an engine does that polls its device or computes on the CPU.
    """

    target: float
    limits: Limits
    full_tokens_per_s: float | None = None

    def use(self, history: History) -> float:
        """Use of one Pod as a share of what it requests, over the window of the metrics server."""
        window = [r for r in history if r.at_s >= history[-1].at_s - _CPU_WINDOW_S]
        seconds = window[-1].at_s - window[0].at_s
        if seconds <= 0:
            return 0.0
        if self.full_tokens_per_s is None:
            return (window[-1].busy_s - window[0].busy_s) / seconds
        return (window[-1].tokens - window[0].tokens) / seconds / self.full_tokens_per_s

    def replicas(self, at_s: float, current: int, serving: Sequence[History]) -> int:
        """Replicas after a decision; Pods that do not serve yet count as idle where more would be added."""
        total = sum(self.use(history) for history in serving)
        ratio = total / len(serving) / self.target
        pods = len(serving)
        if ratio > 1 and current > pods:
            ratio, pods = total / current / self.target, current
            if ratio < 1:
                return self.limits.bounded(at_s, current, current)
        need = current if abs(ratio - 1) <= _TOLERANCE else math.ceil(ratio * pods)
        return self.limits.bounded(at_s, current, need)


Rule = RateRule | QueueRule | CpuRule


def _rate(window: History) -> float:
    return (window[-1].ended - window[0].ended) / (window[-1].at_s - window[0].at_s)


def _in_engine(reading: Reading) -> float:
    return reading.running + reading.waiting


def _slope(window: History, value: Callable[[Reading], float]) -> float:
    """Slope of the regression line, as PromQL's deriv() has it."""
    n = len(window)
    mean_s = sum(r.at_s for r in window) / n
    mean = sum(value(r) for r in window) / n
    spread = sum((r.at_s - mean_s) ** 2 for r in window)
    return sum((r.at_s - mean_s) * (value(r) - mean) for r in window) / spread
