"""One run of one fault: the load before, the fault, the load until P99 is normal again, and what came of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from objectives import Measurement, RequestRecord
from optimize.certify.cgroups import Denied
from optimize.certify.context import FaultContext, Scenario
from optimize.certify.recovery import Normal, harm, is_steady, normal_of, recovered_s
from optimize.certify.results import FaultResult
from optimize.certify.testbed import SupervisedEngine, Testbed, watch
from optimize.config.certify import Certify
from optimize.evaluation.interference import disturbances
from optimize.evaluation.telemetry import Telemetry
from optimize.load.arrivals import OpenLoop, Poisson
from optimize.load.audit import audit_of
from optimize.load.client_pool import LoadRun

_WARM_S, _NORMAL_TRIES = 2.0, 6
_RESTARTED = ("warm", "cold", "standby")


def run_fault(
    scenario: Scenario, mitigated: bool, repeat: int, testbed: Testbed
) -> tuple[FaultResult, list[RequestRecord], Any]:
    """Do it once.

    Returns:
        (what was found, the load's request records, telemetry).

    Raises:
        EngineFailure, TransientFault: the engine did not start, or a client process ended.
    """
    found, props = FaultResult(scenario.name, mitigated, repeat), dict[str, Any]()
    records, series = list[RequestRecord](), dict[str, Any]()
    name = f"{scenario.name}-{'with' if mitigated else 'without'}-{repeat}"
    try:
        with scenario.arrange(testbed, mitigated, props) as arrangement:
            with testbed.engine(arrangement, name) as engine:
                records, series = _load(scenario, found, testbed, engine, props)
            found.figures["orphans"] = engine.orphans()
    except Denied as why:
        found.error = f"not possible here: {why}"
    return found, records, series


def _load(
    scenario: Scenario, found: FaultResult, testbed: Testbed, engine: SupervisedEngine, props: dict[str, Any]
) -> tuple[list[RequestRecord], Any]:
    settings, rate = testbed.settings, testbed.rate_per_s * scenario.rate_share
    arrivals, before = Poisson(rate), engine.front.counts.retried
    telemetry = Telemetry(_View(engine))
    with telemetry.sampling(), testbed.clients.loading(engine.front.endpoint, testbed.asked()) as flow:
        flow.follow(arrivals, 0.0)
        window = _normal_window(flow, found, settings)
        normal = normal_of(flow.records, *window)
        scene = FaultContext(testbed, engine, flow, rate, found.mitigated, props, found.notes, time.time())
        scenario.inject(scene)
        fault_s = flow.clock() - (time.time() - scene.injected_at)
        recovery_s = _recover(flow, scenario, normal, fault_s, testbed)
        scene.end()
    records = [*flow.records, *flow.unanswered]
    _audit(found, flow, arrivals, testbed, window)
    _conclude(found, scenario, scene, normal, records, (fault_s, recovery_s))
    found.figures["retried"] = engine.front.counts.retried - before
    series = telemetry.series(flow.began)
    found.disturbed = _disturbed(testbed, records, series, window)
    return records, series


def _normal_window(flow: LoadRun, found: FaultResult, settings: Certify) -> tuple[float, float]:
    """Go on until the last `normal_s` seconds were steady, or long enough; returns them as seconds of the load."""
    start_s, last_s = _WARM_S, _WARM_S + _NORMAL_TRIES * settings.normal_s
    while True:
        end_s = start_s + settings.normal_s
        watch(flow, lambda end_s=end_s: flow.oldest_due_s() >= end_s, end_s + settings.request_timeout_s)  # type: ignore[misc]
        if is_steady(flow.records, start_s, end_s, settings.window_s, settings.tolerance):
            return start_s, end_s
        if end_s >= last_s:
            found.notes.append(f"the load before the fault was not steady within {end_s:.0f} s")
            return start_s, end_s
        start_s += settings.window_s


class _View:
    """The front as telemetry sees an engine: its metrics are those of whichever engine serves."""

    def __init__(self, engine: SupervisedEngine) -> None:
        self._engine = engine
        self.endpoint = engine.front.endpoint

    @property
    def pids(self) -> Sequence[int]:
        return self._engine.supervisor.pids


def _recover(flow: LoadRun, scenario: Scenario, normal: Normal, fault_s: float, testbed: Testbed) -> float | None:
    """Go on until P99 is normal again, or the longest wait for that is over; seconds from the fault."""
    settings, limit_s = testbed.settings, normal.limit_s(testbed.settings.tolerance)
    seen: list[float | None] = [None]

    def done() -> bool:
        if flow.clock() < fault_s + scenario.watch_s + settings.calm_s:
            return False
        seen[0] = recovered_s(
            flow.records, fault_s, flow.oldest_due_s(), limit_s, settings.window_s, settings.calm_s
        )  # fmt: skip
        return seen[0] is not None

    watch(flow, done, fault_s + settings.recovery_max_s)
    return seen[0]


def _conclude(
    found: FaultResult, scenario: Scenario, scene: FaultContext, normal: Normal, records: list[RequestRecord],
    times: tuple[float, float | None],
) -> None:  # fmt: skip
    fault_s, recovery_s = times
    settings = scene.testbed.settings
    until_s = fault_s + max(scenario.watch_s, settings.recovery_max_s if recovery_s is None else recovery_s)
    limit_s = normal.limit_s(settings.tolerance)
    ended = [r for r in records if r.due_s < until_s]
    done = harm(ended, fault_s, until_s, limit_s)
    restarts = [r for r in scene.engine.supervisor.restarts.read() if r.detected_at >= scene.injected_at]
    took_over = [r for r in restarts if r.how in _RESTARTED]
    found.figures |= {
        "rate_per_s": scene.rate_per_s, "normal_p99_s": normal.p99_s, "requests": done.requests,
        "lost": sum(done.lost.values()), "delayed": done.delayed, "longest_s": done.longest_s,
        "restarts": len(took_over), "preemptions": _preemptions(scene),
    }  # fmt: skip
    optional = {
        "recovery_s": recovery_s, "detection_s": scenario.noticed_s(scene),
        "down_s": took_over[0].down_s if took_over else None,
    }  # fmt: skip
    found.figures |= {name: value for name, value in optional.items() if value is not None}
    found.words |= {
        "who": done.who, "lost": ", ".join(f"{n} {kind}" for kind, n in sorted(done.lost.items())),
        "how": ", ".join(dict.fromkeys(r.how for r in restarts)),
        "causes": "; ".join(dict.fromkeys(f"{r.cause}: {r.reason}"[:200] for r in restarts)),
        "normal": f"{normal.requests} requests, {normal.errors} errors",
    }  # fmt: skip


def _preemptions(scene: FaultContext) -> float:
    counts = [f.get("preemptions", 0.0) for _, f in scene.engine.figures]
    return max(counts, default=0.0) - min(counts, default=0.0)


def _audit(
    found: FaultResult, flow: LoadRun, arrivals: OpenLoop, testbed: Testbed, window: tuple[float, float]
) -> None:
    """The client's own figures over the normal load."""
    start_s, end_s = window
    due = [r for r in (*flow.records, *flow.unanswered) if start_s <= r.due_s < end_s]
    times = arrivals.due_times_s(testbed.plan.config.study.seed)
    asked = sum(t >= start_s for t in itertools.takewhile(lambda t: t < end_s, times))
    audit, guard = audit_of(flow, due, asked, start_s, end_s), testbed.plan.config.load.guard
    found.words["audit"] = audit.in_words()
    found.doubts = audit.problems(guard)
    found.notes += audit.stalls(guard)
    found.tables["audit"] = [asdict(audit)]


def _disturbed(testbed: Testbed, records: list[RequestRecord], series: Any, window: tuple[float, float]) -> list[str]:
    return disturbances(Measurement(records, *window, {}, series), testbed.plan.config.load.guard)
