"""The stress test: a load curve past saturation, less regular arrivals, and a ramp to the target rate and beyond.

Requests go directly to the engine and not through the front, so that the configuration is what breaks. The schedule
offers its rate whatever becomes of the requests, and latencies count from when requests were due.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from objectives import RequestRecord
from optimize.certify.recovery import Baseline, baseline_of
from optimize.certify.results import FaultResult
from optimize.certify.testbed import SupervisedEngine, Testbed, watch, watch_recovery
from optimize.engine.base import Endpoint
from optimize.load.arrivals import OpenLoop, Poisson, Ramp
from optimize.load.audit import Audit, audit_of
from optimize.load.bursty import Bursts, HeavyTailed
from optimize.load.client_pool import LoadRun
from optimize.load.steady_state import backlog

_WARM_S, _DRAIN_S = 2.0, 10.0
_ROUNDING = 1e-6  # of bins: 0.3 + 2.0 - 0.3 is less than 2
_BIN_S, _PROBE_S = 1.0, 15.0
_DOUBLINGS = 3
_GROUPS = 10


def run_stress(repeat: int, testbed: Testbed) -> tuple[FaultResult, list[RequestRecord], Any]:
    """One run of the stress test; returns the result, the ramp's request records, and no telemetry."""
    result = FaultResult("stress", False, repeat)
    # Under overload probes wait too, and the report needs their metrics.
    setup = testbed.setup(probe_timeout_s=_PROBE_S)
    with testbed.engine(setup, f"stress-{repeat}") as engine:
        current = engine.supervisor.current
        assert current is not None
        endpoint = current.engine.endpoint
        capacity = testbed.capacity_per_s(endpoint)
        result.figures["capacity_per_s"] = capacity
        result.tables["curve"] = [
            _steady(testbed, endpoint, Poisson(share * capacity), result) for share in testbed.settings.stress_steps
        ]
        result.tables["patterns"] = _patterns(testbed, endpoint, result)
        records = _ramps(testbed, engine, result)
        restarts = list(engine.supervisor.restarts.read())
        result.figures["restarts"] = len(restarts)
        result.words["causes"] = "; ".join(dict.fromkeys(f"{r.cause}: {r.reason}"[:200] for r in restarts))
    result.figures["orphans"] = engine.orphans()
    _summarize(result)
    return result, records, {}


def _patterns(testbed: Testbed, endpoint: Endpoint, result: FaultResult) -> list[dict[str, Any]]:
    """Poisson arrivals, a heavy tail and bursts at the same mean rate."""
    rate = testbed.rate_per_s
    patterns: list[OpenLoop] = [Poisson(rate), HeavyTailed(rate), Bursts(rate, _GROUPS)]
    return [{"pattern": p.describe(), **_steady(testbed, endpoint, p, result)} for p in patterns]


def _steady(testbed: Testbed, endpoint: Endpoint, arrivals: OpenLoop, result: FaultResult) -> dict[str, Any]:
    start_s, end_s = _WARM_S, _WARM_S + testbed.settings.stress_step_s
    with testbed.clients.loading(endpoint, testbed.load_request()) as load:
        load.follow(arrivals, 0.0)
        watch(load, lambda: load.clock() >= end_s, end_s)
        watch(load, lambda: load.oldest_due_s() >= end_s, end_s + _DRAIN_S)
    audit = _audited(load, arrivals, 0.0, testbed, (start_s, end_s))
    _doubt(result, audit, testbed, arrivals.describe())
    return summary([*load.records, *load.unanswered], start_s, end_s, arrivals.first_rate_per_s) | {
        "send_lag_p99_s": audit.send_lag_p99_s, "client_cpu": audit.client_cpu,
    }  # fmt: skip


def summary(records: Sequence[RequestRecord], start_s: float, end_s: float, rate: float) -> dict[str, Any]:
    """Summary of a steady rate. Pure.

    Returns:
        offered_per_s (mean rate of the schedule), arrived_per_s (requests due in the window), answered_per_s (answers
        completed in it), p50_s, p99_s, errors by class, kept (whether answers kept up with arrivals).
    """
    due = [r for r in records if start_s <= r.due_s < end_s]
    answered = [r for r in records if r.error is None and start_s <= r.done_s < end_s]
    waits = [r.latency_s for r in due] or [0.0]
    failed = Counter(str(r.error) for r in due if r.error is not None)
    growth = backlog(len(due), len(answered))
    return {
        "offered_per_s": rate, "arrived_per_s": len(due) / (end_s - start_s),
        "answered_per_s": len(answered) / (end_s - start_s), "p50_s": float(np.quantile(waits, 0.5)),
        "p99_s": float(np.quantile(waits, 0.99)), "errors": dict(failed), "kept": growth is None and not failed,
    }  # fmt: skip


def _ramps(testbed: Testbed, engine: SupervisedEngine, result: FaultResult) -> list[RequestRecord]:
    """The ramp to the target rate, then to twice that rate and again twice, until P99 breaks."""
    target, records = testbed.settings.stress_target_per_s, list[RequestRecord]()
    for number in range(_DOUBLINGS + 1):
        records = _ramp(testbed, engine, result, target * 2**number)
        if result.words["broke"]:
            break
    return records


@dataclass(frozen=True)
class _RampRun:
    """One ramp that was driven.

    Attributes:
        load: The load, ended.
        ramp: The ramp of arrivals.
        hold_s: Seconds for which its final rate was held.
        began_s: Second of the load at which it began.
        baseline: The load before it.
        recovery_s: Seconds from its end until P99 was normal again; None if it did not recover.
    """

    load: LoadRun
    ramp: Ramp
    hold_s: float
    began_s: float
    baseline: Baseline
    recovery_s: float | None

    @property
    def window(self) -> tuple[float, float]:
        """First and last second of ramp and hold."""
        return self.began_s, self.began_s + self.ramp.ramp_s + self.hold_s

    @property
    def records(self) -> list[RequestRecord]:
        return [*self.load.records, *self.load.unanswered]

    @property
    def due(self) -> list[RequestRecord]:
        """Requests of ramp and hold."""
        start_s, end_s = self.window
        return [r for r in self.records if start_s <= r.due_s < end_s]


def _ramp(testbed: Testbed, engine: SupervisedEngine, result: FaultResult, target: float) -> list[RequestRecord]:
    """One ramp to a target rate, noted in the result; returns all request records."""
    current = engine.supervisor.current
    assert current is not None
    run = _drive_ramp(testbed, current.engine.endpoint, target)
    audit = _audited(run.load, run.ramp, run.began_s, testbed, run.window)
    _doubt(result, audit, testbed, f"ramp to {target:g}/s")
    bins = per_bin(run.records, *run.window, run.ramp, engine.metrics, run.load.began)
    broke = breaking_per_s(bins, run.baseline.limit_s(testbed.settings.tolerance))
    result.tables["ramp"] = bins
    result.tables["ramp_audit"] = [asdict(audit)]
    result.words |= {
        "audit": audit.in_words(), "broke": "" if broke is None else f"{broke:.0f} requests/s",
        "ramp": f"{run.ramp.describe()}, then {run.hold_s:.1f} s at {run.ramp.to_per_s:.0f}/s",
        "errors": _counted(run.due),
    }  # fmt: skip
    result.figures |= {"rate_per_s": testbed.rate_per_s, **_ramp_figures(run, bins, target)}
    result.figures |= {} if broke is None else {"breaking_per_s": broke}
    return run.records


def _drive_ramp(testbed: Testbed, endpoint: Endpoint, target: float) -> _RampRun:
    settings, rate = testbed.settings, testbed.rate_per_s
    baseline_until_s = _WARM_S + settings.normal_s
    ramp, hold_s = bounded_ramp(
        rate, target, settings.stress_ramp_s, settings.stress_hold_s, settings.stress_requests_max
    )  # fmt: skip
    with testbed.clients.loading(endpoint, testbed.load_request()) as load:
        load.follow(Poisson(rate), 0.0)
        watch(load, lambda: load.clock() >= baseline_until_s, baseline_until_s)
        began_s = load.clock() + 0.05
        load.follow(ramp, began_s)
        end_s = began_s + ramp.ramp_s + hold_s
        watch(load, lambda: load.clock() >= end_s, end_s)
        load.follow(Poisson(rate), end_s)
        # The last requests before the ramp may not have ended.
        baseline = baseline_of(load.records, _WARM_S, baseline_until_s - min(1.0, settings.normal_s / 2))
        recovery_s = watch_recovery(load, end_s, baseline.limit_s(settings.tolerance), settings)
    return _RampRun(load, ramp, hold_s, began_s, baseline, recovery_s)


def _ramp_figures(run: _RampRun, bins: Sequence[dict[str, Any]], target: float) -> dict[str, float]:
    figures = {
        "normal_p99_s": run.baseline.p99_s,
        "peak_answered_per_s": max(b["answered_per_s"] for b in bins),
        "peak_p99_s": summary(run.records, *run.window, target)["p99_s"],
        "waiting_max": max((b["waiting"] for b in bins if b["waiting"] is not None), default=0.0),
        "requests": len(run.due),
        "lost": sum(r.error is not None for r in run.due),
    }
    return figures if run.recovery_s is None else {**figures, "recovery_s": run.recovery_s}


def bounded_ramp(rate: float, target: float, ramp_s: float, hold_s: float, requests_max: int) -> tuple[Ramp, float]:
    """A ramp and the seconds that its final rate is held, so that at most `requests_max` are sent. Pure."""
    target = max(target, rate)
    on_ramp = (rate + target) / 2 * ramp_s
    if on_ramp > requests_max:
        target = max(rate, 2 * requests_max / ramp_s - rate)
        on_ramp = (rate + target) / 2 * ramp_s
    return Ramp(rate, target, ramp_s), max(0.0, min(hold_s, (requests_max - on_ramp) / target))


def per_bin(
    records: Sequence[RequestRecord], start_s: float, end_s: float, ramp: Ramp,
    metrics: Sequence[tuple[float, Any]], began: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Whole seconds of the ramp: rates offered and answered, errors, P99 by due time, and the engine's queue."""
    waiting = [(at - began, f["requests_waiting"]) for at, f in metrics if "requests_waiting" in f]
    bins = []
    for number in range(int((end_s - start_s) / _BIN_S + _ROUNDING)):
        low, high = start_s + number * _BIN_S, start_s + (number + 1) * _BIN_S
        share = min(1.0, (number + 0.5) * _BIN_S / ramp.ramp_s)
        rate = ramp.from_per_s + share * (ramp.to_per_s - ramp.from_per_s)
        queue = [v for t, v in waiting if low <= t < high]
        bins.append(
            {"second": number, **summary(records, low, high, rate), "waiting": max(queue) if queue else None}
        )  # fmt: skip
    return bins


def breaking_per_s(bins: Sequence[dict[str, Any]], limit_s: float) -> float | None:
    """Offered rate of the first second after which P99 is never normal again; None if it is normal at the end. Pure."""
    bad = [b["p99_s"] > limit_s or bool(b["errors"]) for b in bins]
    if not bad or not bad[-1]:
        return None
    first = len(bad) - len(list(itertools.takewhile(bool, reversed(bad))))
    return float(bins[first]["offered_per_s"])


def _audited(load: LoadRun, arrivals: OpenLoop, began_s: float, testbed: Testbed, window: tuple[float, float]) -> Audit:
    start_s, end_s = window
    due = [r for r in (*load.records, *load.unanswered) if start_s <= r.due_s < end_s]
    times = (began_s + t for t in arrivals.due_times_s(testbed.plan.config.study.seed))
    scheduled = sum(t >= start_s for t in itertools.takewhile(lambda t: t < end_s, times))
    return audit_of(load, due, scheduled, start_s, end_s)


def _doubt(result: FaultResult, audit: Audit, testbed: Testbed, where: str) -> None:
    guard = testbed.plan.config.load.guard
    result.doubts += [f"{where}: {problem}" for problem in audit.problems(guard)]
    result.notes += [f"{where}: {stall}" for stall in audit.stalls(guard)]


def _counted(records: Any) -> str:
    counts = Counter(str(r.error) for r in records if r.error is not None)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))


def _summarize(result: FaultResult) -> None:
    rates = [s["answered_per_s"] for s in itertools.takewhile(lambda s: s["kept"], result.tables["curve"])]
    if rates:
        result.figures["sustained_per_s"] = max(rates)
