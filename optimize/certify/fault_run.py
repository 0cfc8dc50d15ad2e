"""One run of one fault: the load before it, the fault, the load until P99 is normal again, and the result."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from objectives import Measurement, RequestRecord
from optimize.certify.cgroups import Denied
from optimize.certify.context import FaultContext, Scenario, now
from optimize.certify.recovery import Baseline, baseline_of, harm, is_steady
from optimize.certify.results import FaultResult
from optimize.certify.testbed import SupervisedEngine, Testbed, watch, watch_recovery
from optimize.config.certify import Certify
from optimize.evaluation.interference import disturbances
from optimize.evaluation.telemetry import Telemetry
from optimize.load.arrivals import OpenLoop, Poisson
from optimize.load.audit import audit_of
from optimize.load.client_pool import LoadRun

_WARM_S, _BASELINE_TRIES = 2.0, 6
_RESTARTED = ("warm", "cold", "standby")


def run_fault(
    scenario: Scenario, mitigated: bool, repeat: int, testbed: Testbed
) -> tuple[FaultResult, list[RequestRecord], Any]:
    """One run of one scenario.

    Returns:
        The result, the load's request records, and telemetry.

    Raises:
        EngineFailure, TransientFault: the engine did not start, or a client process ended.
    """
    result, resources = FaultResult(scenario.name, mitigated, repeat), dict[str, Any]()
    records, series = list[RequestRecord](), dict[str, Any]()
    name = f"{scenario.name}-{'with' if mitigated else 'without'}-{repeat}"
    try:
        with scenario.setup_of(testbed, mitigated, resources) as setup:
            with testbed.engine(setup, name) as engine:
                records, series = _run_under_load(scenario, result, testbed, engine, resources)
            result.figures["orphans"] = engine.orphans()
    except Denied as reason:
        result.error = f"not possible here: {reason}"
    return result, records, series


def _run_under_load(
    scenario: Scenario, result: FaultResult, testbed: Testbed, engine: SupervisedEngine, resources: dict[str, Any]
) -> tuple[list[RequestRecord], Any]:
    settings, rate = testbed.settings, testbed.rate_per_s * scenario.rate_share
    arrivals, before = Poisson(rate), engine.front.counts.retried
    telemetry = Telemetry(_FrontView(engine))
    with telemetry.sampling(), testbed.clients.loading(engine.front.endpoint, testbed.load_request()) as load:
        load.follow(arrivals, 0.0)
        window = _baseline_window(load, result, settings)
        baseline = baseline_of(load.records, *window)
        context = FaultContext(testbed, engine, load, rate, result.mitigated, resources, result.notes, now())
        scenario.inject(context)
        fault_s = load.clock() - (now() - context.injected_at)
        recovery_s = _recover(load, scenario, baseline, fault_s, testbed)
        context.end()
    records = [*load.records, *load.unanswered]
    _audit(result, load, arrivals, testbed, window)
    _conclude(result, scenario, context, baseline, records, (fault_s, recovery_s))
    result.figures["retried"] = engine.front.counts.retried - before
    series = telemetry.series(load.began)
    result.disturbed = _disturbed(testbed, records, series, window)
    return records, series


def _baseline_window(load: LoadRun, result: FaultResult, settings: Certify) -> tuple[float, float]:
    """Load until its last `normal_s` seconds were steady, or for six times that; returns their bounds."""
    start_s, last_s = _WARM_S, _WARM_S + _BASELINE_TRIES * settings.normal_s
    while True:
        end_s = start_s + settings.normal_s
        watch(load, lambda end_s=end_s: load.oldest_due_s() >= end_s, end_s + settings.request_timeout_s)  # type: ignore[misc]
        if is_steady(load.records, start_s, end_s, settings.window_s, settings.tolerance):
            return start_s, end_s
        if end_s >= last_s:
            result.notes.append(f"the load before the fault was not steady within {end_s:.0f} s")
            return start_s, end_s
        start_s += settings.window_s


class _FrontView:
    """The front in the role of an engine for telemetry: its metrics are those of the engine that serves."""

    def __init__(self, engine: SupervisedEngine) -> None:
        self._engine = engine
        self.endpoint = engine.front.endpoint

    @property
    def pids(self) -> Sequence[int]:
        return self._engine.supervisor.pids


def _recover(load: LoadRun, scenario: Scenario, baseline: Baseline, fault_s: float, testbed: Testbed) -> float | None:
    """Load until P99 is normal again; seconds from the fault, or None after `recovery_max_s`."""
    settings, limit_s = testbed.settings, baseline.limit_s(testbed.settings.tolerance)
    calm_from_s = fault_s + scenario.watch_s + settings.calm_s
    return watch_recovery(load, fault_s, limit_s, settings, calm_from_s)


def _conclude(
    result: FaultResult, scenario: Scenario, context: FaultContext, baseline: Baseline, records: list[RequestRecord],
    times: tuple[float, float | None],
) -> None:  # fmt: skip
    fault_s, recovery_s = times
    settings = context.testbed.settings
    until_s = fault_s + max(scenario.watch_s, settings.recovery_max_s if recovery_s is None else recovery_s)
    limit_s = baseline.limit_s(settings.tolerance)
    damage = harm([r for r in records if r.due_s < until_s], fault_s, until_s, limit_s)
    restarts = [r for r in context.engine.supervisor.restarts.own if r.detected_s >= context.injected_at]
    takeovers = [r for r in restarts if r.how in _RESTARTED]
    result.figures |= {
        "rate_per_s": context.rate_per_s, "normal_p99_s": baseline.p99_s, "requests": damage.requests,
        "lost": sum(damage.lost.values()), "delayed": damage.delayed, "longest_s": damage.longest_s,
        "restarts": len(takeovers), "preemptions": _preemptions(context),
    }  # fmt: skip
    optional = {
        "recovery_s": recovery_s, "detection_s": scenario.detected_s(context),
        "down_s": takeovers[0].down_s if takeovers else None,
    }  # fmt: skip
    result.figures |= {name: value for name, value in optional.items() if value is not None}
    result.words |= {
        "who": damage.who, "lost": ", ".join(f"{n} {kind}" for kind, n in sorted(damage.lost.items())),
        "how": ", ".join(dict.fromkeys(r.how for r in restarts)),
        "causes": "; ".join(dict.fromkeys(f"{r.cause}: {r.reason}"[:200] for r in restarts)),
        "normal": f"{baseline.requests} requests, {baseline.errors} errors",
    }  # fmt: skip


def _preemptions(context: FaultContext) -> float:
    counts = [f.get("preemptions", 0.0) for _, f in context.engine.metrics]
    return max(counts, default=0.0) - min(counts, default=0.0)


def _audit(
    result: FaultResult, load: LoadRun, arrivals: OpenLoop, testbed: Testbed, window: tuple[float, float]
) -> None:
    """Audit the client over the load before the fault."""
    start_s, end_s = window
    due = [r for r in (*load.records, *load.unanswered) if start_s <= r.due_s < end_s]
    times = arrivals.due_times_s(testbed.plan.config.study.seed)
    scheduled = sum(t >= start_s for t in itertools.takewhile(lambda t: t < end_s, times))
    audit, guard = audit_of(load, due, scheduled, start_s, end_s), testbed.plan.config.load.guard
    result.words["audit"] = audit.in_words()
    result.doubts = audit.problems(guard)
    result.notes += audit.stalls(guard)
    result.tables["audit"] = [asdict(audit)]


def _disturbed(testbed: Testbed, records: list[RequestRecord], series: Any, window: tuple[float, float]) -> list[str]:
    return disturbances(Measurement(records, *window, {}, series), testbed.plan.config.load.guard)
