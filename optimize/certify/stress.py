"""The stress test: the curve up to and past saturation, a ramp to the target rate and on, and less regular arrivals.

Requests go to the engine itself, not through the front, so that it is the configuration that breaks. Rates are offered
by the schedule, whatever becomes of the requests; latencies count from when they were due.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from objectives import RequestRecord
from optimize.certify.recovery import normal_of, recovered_s
from optimize.certify.results import FaultResult
from optimize.certify.testbed import SupervisedEngine, Testbed, watch
from optimize.engine.base import Endpoint
from optimize.load.arrivals import OpenLoop, Poisson, Ramp
from optimize.load.audit import Audit, audit_of
from optimize.load.bursty import Bursts, HeavyTailed
from optimize.load.client_pool import LoadRun
from optimize.load.steady_state import backlog

_WARM_S, _DRAIN_S = 2.0, 10.0
_KEPT_SHARE = 0.95
_BIN_S, _PROBE_S = 1.0, 15.0
_DOUBLINGS = 3
_GROUPS = 10


def run_stress(repeat: int, testbed: Testbed) -> tuple[FaultResult, list[RequestRecord], Any]:
    """Do it once; returns what was found, the ramp's request records, and no telemetry of its own."""
    found = FaultResult("stress", False, repeat)
    # Under overload even a probe waits; the engine's own figures are wanted all the same.
    patient = testbed.arrangement(probe_timeout_s=_PROBE_S)
    with testbed.engine(patient, f"stress-{repeat}") as engine:
        current = engine.supervisor.current
        assert current is not None
        endpoint = current.engine.endpoint
        capacity = testbed.capacity_per_s(endpoint)
        found.figures["capacity_per_s"] = capacity
        found.tables["curve"] = [
            _steady(testbed, endpoint, Poisson(share * capacity), found) for share in testbed.settings.stress_steps
        ]
        found.tables["patterns"] = _patterns(testbed, endpoint, found)
        records = _ramps(testbed, engine, found)
        restarts = list(engine.supervisor.restarts.read())
        found.figures["restarts"] = len(restarts)
        found.words["causes"] = "; ".join(dict.fromkeys(f"{r.cause}: {r.reason}"[:200] for r in restarts))
    found.figures["orphans"] = engine.orphans()
    _summarize(found)
    return found, records, {}


def _patterns(testbed: Testbed, endpoint: Endpoint, found: FaultResult) -> list[dict[str, Any]]:
    """Independent users, a heavy tail and bursts, at the same mean rate."""
    rate = testbed.rate_per_s
    patterns: list[OpenLoop] = [Poisson(rate), HeavyTailed(rate), Bursts(rate, _GROUPS)]
    return [{"pattern": p.describe(), **_steady(testbed, endpoint, p, found)} for p in patterns]


def _steady(testbed: Testbed, endpoint: Endpoint, arrivals: OpenLoop, found: FaultResult) -> dict[str, Any]:
    start_s, end_s = _WARM_S, _WARM_S + testbed.settings.stress_step_s
    with testbed.clients.loading(endpoint, testbed.asked()) as flow:
        flow.follow(arrivals, 0.0)
        watch(flow, lambda: flow.clock() >= end_s, end_s)
        watch(flow, lambda: flow.oldest_due_s() >= end_s, end_s + _DRAIN_S)
    audit = _audited(flow, arrivals, 0.0, testbed, (start_s, end_s))
    _doubt(found, audit, testbed, arrivals.describe())
    return summary([*flow.records, *flow.unanswered], start_s, end_s, arrivals.first_rate_per_s) | {
        "send_lag_p99_s": audit.send_lag_p99_s, "client_cpu": audit.client_cpu,
    }  # fmt: skip


def summary(records: Sequence[RequestRecord], start_s: float, end_s: float, rate: float) -> dict[str, Any]:
    """What became of a steady rate. Pure.

    Returns:
        offered_per_s (by the schedule), arrived_per_s (what this draw of it asked), answered_per_s (answers that came
        in the window), p50_s, p99_s, errors by class, kept (whether answers kept up with arrivals).
    """
    due = [r for r in records if start_s <= r.due_s < end_s]
    ended = [r for r in records if r.error is None and start_s <= r.done_s < end_s]
    waits = [r.latency_s for r in due] or [0.0]
    failed = Counter(str(r.error) for r in due if r.error is not None)
    piled = backlog(len(due), len(ended))
    return {
        "offered_per_s": rate, "arrived_per_s": len(due) / (end_s - start_s),
        "answered_per_s": len(ended) / (end_s - start_s), "p50_s": float(np.quantile(waits, 0.5)),
        "p99_s": float(np.quantile(waits, 0.99)), "errors": dict(failed), "kept": piled is None and not failed,
    }  # fmt: skip


def _ramps(testbed: Testbed, engine: SupervisedEngine, found: FaultResult) -> list[RequestRecord]:
    """The ramp to the target rate; to twice the rate, and again, while that does not break it."""
    target, records = testbed.settings.stress_per_s, list[RequestRecord]()
    for number in range(_DOUBLINGS + 1):
        records = _ramp(testbed, engine, found, target * 2**number)
        if found.words["broke"]:
            break
    return records


def _ramp(testbed: Testbed, engine: SupervisedEngine, found: FaultResult, target: float) -> list[RequestRecord]:
    settings, rate = testbed.settings, testbed.rate_per_s
    current = engine.supervisor.current
    assert current is not None
    normal_until_s = _WARM_S + settings.normal_s
    ramp, hold_s = bounded_ramp(
        rate, target, settings.stress_ramp_s, settings.stress_hold_s, settings.stress_requests_max
    )  # fmt: skip
    with testbed.clients.loading(current.engine.endpoint, testbed.asked()) as flow:
        flow.follow(Poisson(rate), 0.0)
        watch(flow, lambda: flow.clock() >= normal_until_s, normal_until_s)
        began_s = flow.clock() + 0.05
        flow.follow(ramp, began_s)
        end_s = began_s + ramp.ramp_s + hold_s
        watch(flow, lambda: flow.clock() >= end_s, end_s)
        flow.follow(Poisson(rate), end_s)
        normal = normal_of(flow.records, _WARM_S, normal_until_s - 1.0)
        recovery_s = _until_normal(flow, end_s, normal.limit_s(settings.tolerance), testbed)
    records = [*flow.records, *flow.unanswered]
    audit = _audited(flow, ramp, began_s, testbed, (began_s, end_s))
    _doubt(found, audit, testbed, f"ramp to {target:g}/s")
    bins = per_bin(records, began_s, end_s, ramp, engine.figures, flow.began)
    broke = breaking_per_s(bins, normal.limit_s(settings.tolerance))
    found.tables["ramp"] = bins
    found.tables["ramp_audit"] = [asdict(audit)]
    found.words |= {
        "audit": audit.in_words(), "broke": "" if broke is None else f"{broke:.0f} requests/s",
        "ramp": f"{ramp.describe()}, then {hold_s:.1f} s at {ramp.to_per_s:.0f}/s",
        "errors": _counted(r for r in records if began_s <= r.due_s < end_s),
    }  # fmt: skip
    found.figures |= {
        "rate_per_s": rate, "normal_p99_s": normal.p99_s,
        "peak_answered_per_s": max(b["answered_per_s"] for b in bins),
        "peak_p99_s": summary(records, began_s, end_s, target)["p99_s"],
        "waiting_max": max((b["waiting"] for b in bins if b["waiting"] is not None), default=0.0),
        "requests": sum(began_s <= r.due_s < end_s for r in records),
        "lost": sum(r.error is not None and began_s <= r.due_s < end_s for r in records),
    }  # fmt: skip
    found.figures |= {} if broke is None else {"breaking_per_s": broke}
    found.figures |= {} if recovery_s is None else {"recovery_s": recovery_s}
    return records


def bounded_ramp(rate: float, target: float, ramp_s: float, hold_s: float, requests_max: int) -> tuple[Ramp, float]:
    """A ramp and how long its end is held, so that no more than `requests_max` are sent. Pure."""
    target = max(target, rate)
    on_ramp = (rate + target) / 2 * ramp_s
    if on_ramp > requests_max:
        target = max(rate, 2 * requests_max / ramp_s - rate)
        on_ramp = (rate + target) / 2 * ramp_s
    return Ramp(rate, target, ramp_s), max(0.0, min(hold_s, (requests_max - on_ramp) / target))


def _until_normal(flow: LoadRun, end_s: float, limit_s: float, testbed: Testbed) -> float | None:
    """Seconds from the end of the peak until P99 was normal again; None if that did not come."""
    settings, seen = testbed.settings, list[float | None]([None])

    def done() -> bool:
        seen[0] = recovered_s(
            flow.records, end_s, flow.oldest_due_s(), limit_s, settings.window_s, settings.calm_s
        )  # fmt: skip
        return seen[0] is not None

    watch(flow, done, end_s + settings.recovery_max_s)
    return seen[0]


def per_bin(
    records: Sequence[RequestRecord], start_s: float, end_s: float, ramp: Ramp,
    figures: Sequence[tuple[float, Any]], began: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """The ramp second by second: what was offered, answered and lost, P99 by due time, and the engine's own queue."""
    offset = time.time() - time.monotonic()  # figures carry unix time, the load counts from `began`
    waiting = [(at - offset - began, f["requests_waiting"]) for at, f in figures if "requests_waiting" in f]
    found = []
    for number in range(int((end_s - start_s) / _BIN_S)):
        low, high = start_s + number * _BIN_S, start_s + (number + 1) * _BIN_S
        share = min(1.0, (number + 0.5) * _BIN_S / ramp.ramp_s)
        rate = ramp.from_per_s + share * (ramp.to_per_s - ramp.from_per_s)
        queue = [v for t, v in waiting if low <= t < high]
        found.append(
            {"second": number, **summary(records, low, high, rate), "waiting": max(queue) if queue else None}
        )  # fmt: skip
    return found


def breaking_per_s(bins: Sequence[dict[str, Any]], limit_s: float) -> float | None:
    """The offered rate of the first second from which on P99 is never normal again; None where it still is. Pure."""
    bad = [b["p99_s"] > limit_s or bool(b["errors"]) for b in bins]
    if not bad or not bad[-1]:
        return None
    first = len(bad) - len(list(itertools.takewhile(bool, reversed(bad))))
    return float(bins[first]["offered_per_s"])


def _audited(flow: LoadRun, arrivals: OpenLoop, began_s: float, testbed: Testbed, window: tuple[float, float]) -> Audit:
    start_s, end_s = window
    due = [r for r in (*flow.records, *flow.unanswered) if start_s <= r.due_s < end_s]
    times = (began_s + t for t in arrivals.due_times_s(testbed.plan.config.study.seed))
    asked = sum(t >= start_s for t in itertools.takewhile(lambda t: t < end_s, times))
    return audit_of(flow, due, asked, start_s, end_s)


def _doubt(found: FaultResult, audit: Audit, testbed: Testbed, where: str) -> None:
    guard = testbed.plan.config.load.guard
    found.doubts += [f"{where}: {problem}" for problem in audit.problems(guard)]
    found.notes += [f"{where}: {stall}" for stall in audit.stalls(guard)]


def _counted(records: Any) -> str:
    counts = Counter(str(r.error) for r in records if r.error is not None)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))


def _summarize(found: FaultResult) -> None:
    kept = [s["answered_per_s"] for s in itertools.takewhile(lambda s: s["kept"], found.tables["curve"])]
    if kept:
        found.figures["sustained_per_s"] = max(kept)
