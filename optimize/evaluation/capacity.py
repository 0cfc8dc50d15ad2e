"""One configuration's capacity: the probes of a search in place of one load, and the figures at the capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from objectives import Estimate, Measurement, RequestRecord
from objectives.capacity import CapacityObjective
from optimize.capacity import Capacity, Enough, Kind, ProbeRun, Search, Slo, Unit
from optimize.capacity.estimator import estimate
from optimize.config.measuring import Guard
from optimize.decision.futility import Futility
from optimize.evaluation.estimates import estimate_all
from optimize.evaluation.task import Task
from optimize.load.pace import pace_of
from optimize.load.prober import LiveProber, ProbeLoad
from optimize.load.service_level import search_of, slo_of
from optimize.plan import Plan

_NEAR = 0.8
"""Probes from this share of the capacity on show what the engine does at it."""
_SEEDS = 1000
_WARM_UP = 0.15
"""Share of a probe before its window."""

Measured = Callable[[Sequence[RequestRecord], float, float], Measurement]
"""From records, and a window in seconds since the search began, to a measurement with its telemetry."""


@dataclass
class GuardedProber:
    """A prober that repeats a probe which other programs disturbed, or for which there were too few clients.

    Attributes:
        prober: Applies the load.
        guard: Limits of the disturbances, and how often a probe is repeated.
        disturbances: What disturbed a probe, in words.
        grow: Adds clients from the next load on; returns whether it did.
        rejected: Why probes were repeated, in words.
    """

    prober: LiveProber
    guard: Guard
    disturbances: Callable[[ProbeLoad], list[str]]
    grow: Callable[[], bool]
    rejected: list[str] = field(default_factory=list)

    def __call__(self, level: float, enough: Enough, most_s: float) -> ProbeRun:
        run = self.prober(level, enough, most_s)
        for _ in range(self.guard.repeats):
            objections = self._objections(self.prober.loads[-1])
            if not objections:
                break
            self.rejected += objections
            self.prober.loads.pop()
            run = self.prober(level, enough, most_s)
        return run

    def _objections(self, last: ProbeLoad) -> list[str]:
        """Why the last probe is to be repeated; clients that cannot do better are no reason."""
        disturbances, problems = self.disturbances(last), last.audit.problems(self.guard)
        is_busy = last.audit.client_cpu > self.guard.client_cpu_max / 2
        return [*disturbances, *problems] if disturbances or (problems and is_busy and self.grow()) else []


@dataclass(frozen=True)
class CapacityMeasurement:
    """Searches for the capacity of one configuration.

    Attributes:
        plan: SLO, search and metrics.
        task: The configuration; notes are taken on it.
        prober: Applies the load.
        measured: Makes the measurement.
    """

    plan: Plan
    task: Task
    prober: GuardedProber
    measured: Measured

    def run(self) -> Measurement:
        """Search, and note the probes.

        Returns:
            The measurement at the capacity: the records of all probes, and a window within the one at or just below it.

        Raises:
            EngineFailure: the engine died, or does not answer.
            TransientFault: a client process ended.
        """
        slo, notes = slo_of(self.plan.config.slo), self.task.notes
        self.prober.prober.await_first_answers()
        capacity, notes.cut_short = self._search(slo)
        notes.capacity = {**capacity.to_dict(), "slo": slo.to_dict()}
        nearest = nearest_of(self._loads, capacity.value)
        records = [record for load in self._loads for record in load.records]
        measurement = self.measured(records, *window_of(nearest))
        self._note(nearest, measurement)
        latency_max_s = self.plan.config.slo.latency_max_s
        return replace(measurement, memory=nearest.memory, capacity=figure_of(capacity, self._loads[-1], latency_max_s))

    def _note(self, nearest: ProbeLoad, measurement: Measurement) -> None:
        """Note how the window was measured."""
        notes, load = self.task.notes, self.plan.config.load
        notes.repeats += dict.fromkeys(self.prober.rejected)
        notes.audit = asdict(nearest.audit)
        notes.disturbances = self.prober.disturbances(nearest) + nearest.audit.stalls(load.guard)
        pace = pace_of(measurement.due_in_window, measurement.window_s, load)
        # No window was to hold a number of answers: a probe has as many as its verdict needs.
        whole = pace and replace(pace, answers=load.window_requests, requests=0, disturbed=bool(notes.disturbances))
        notes.pace = asdict(whole) if whole else {}
        notes.seconds |= {
            "first_answer": self.prober.prober.first_answer_s, "warmup": measurement.window_start_s,
            "window": measurement.window_s, "drain": self._loads[-1].drained_s - measurement.window_end_s,
        }  # fmt: skip

    @property
    def _loads(self) -> list[ProbeLoad]:
        return self.prober.prober.loads

    def _search(self, slo: Slo) -> tuple[Capacity, str]:
        """The capacity, and why the search was given up; empty where it was not.

        A configuration that fails by far at the best capacity so far is given up where it is better in nothing else.
        """
        incumbent = incumbent_of(self.task.futility, self._capacities)
        settings = self._settings(incumbent)
        capacity = self._estimated(slo, settings)
        if capacity.kind is not Kind.AT_MOST:
            return capacity, ""
        reason = self._hopeless(capacity)
        return (capacity, reason) if reason else (self._estimated(slo, self._settings()), "")

    def _estimated(self, slo: Slo, search: Search) -> Capacity:
        return estimate(self.prober, slo, search, seed_of(self.plan, self.task))

    def _settings(self, incumbent: float | None = None) -> Search:
        return search_of(self.plan.config.load.capacity, self.plan.arrivals, incumbent)

    @property
    def _capacities(self) -> dict[str, CapacityObjective]:
        metrics = self.plan.metrics.items()
        return {name: metric for name, metric in metrics if isinstance(metric, CapacityObjective)}

    def _hopeless(self, capacity: Capacity) -> str:
        """Why a configuration of at most this capacity cannot matter any more; empty where it can.

        Beside the capacity only memory is known, by what it is at least: without a single request.
        """
        assert self.task.futility is not None
        best = capacity.to_estimate()
        less = replace(best, high=math.nextafter(best.high, 0.0))  # at that level itself it fails
        idle = Measurement([], 0.0, 0.0, {}, memory=self._loads[-1].memory, capacity=less)
        memory = {name: metric for name, metric in self.plan.metrics.items() if metric.unit == "bytes"}
        return self.task.futility.hopeless(estimate_all(idle, memory | self._capacities)) or ""


def seed_of(plan: Plan, task: Task) -> int:
    """Seed of a search: with the same arrivals, two measurements of a study would have the same errors, too."""
    return plan.config.study.seed + _SEEDS * task.record.number


def figure_of(capacity: Capacity, last: ProbeLoad, latency_max_s: float | None) -> Estimate:
    """The capacity as a figure; of a search that was given up, what the engine did at the level where it failed.

    There it was saturated, and answered as many requests per second as it can; so many users as that wait for the
    longest answer that is allowed (Little's law). The level itself, to which the capacity may come at most, would tell
    the sampler that all that is given up is nearly as good as the best.

    Args:
        capacity: The capacity.
        last: The last probe.
        latency_max_s: Limit on the time to the complete answer; None without one.
    """
    figure = capacity.to_estimate()
    if capacity.kind is not Kind.AT_MOST:
        return figure
    answers = sum(r.error is None and r.done_s < last.end_s for r in last.records)
    rate = answers / (last.end_s - last.start_s)
    if capacity.unit is Unit.USERS:
        rate = math.inf if latency_max_s is None else rate * latency_max_s
    return replace(figure, value=min(figure.value, rate))


def incumbent_of(futility: Futility | None, capacities: Mapping[str, CapacityObjective]) -> float | None:
    """The capacity to beat, by the lower end of its interval; None before there is one, and where none is sought."""
    if futility is None:
        return None
    names = [name for name in futility.directions if name in capacities]
    figures = [rival.estimates[name] for name in names for rival in futility.rivals if name in rival.estimates]
    return max((figure.low for figure in figures), default=0.0) or None


def nearest_of(loads: Sequence[ProbeLoad], capacity: float) -> ProbeLoad:
    """The probe that shows what the engine does at its capacity: the longest of those at or just below it.

    Where there is none, it is the highest below; of an engine that carries nothing, the lowest of all.
    """
    below = [load for load in loads if load.level <= capacity]
    if not below:
        return min(loads, key=lambda load: load.level)
    near = [load for load in below if load.level >= _NEAR * capacity]
    return max(near, key=lambda load: load.end_s - load.start_s) if near else max(below, key=lambda load: load.level)


def window_of(load: ProbeLoad) -> tuple[float, float]:
    """Start and end of the window within a probe, in seconds since the search began."""
    return load.start_s + _WARM_UP * (load.end_s - load.start_s), load.end_s
