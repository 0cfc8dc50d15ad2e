"""Effects of a fault, from request records: recovery of P99, lost and delayed requests, who was affected. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from objectives import RequestRecord

_STEPS = 4
_ALL = 0.9


@dataclass(frozen=True, slots=True)
class Baseline:
    """The load before a fault.

    Attributes:
        p99_s: Its P99 latency, counted from when requests were due.
        median_s: Its median latency.
        requests: Number of requests.
        errors: Number of them that failed.
    """

    p99_s: float
    median_s: float
    requests: int
    errors: int

    def limit_s(self, tolerance: float) -> float:
        """Highest P99 that counts as normal."""
        return tolerance * self.p99_s


def baseline_of(records: Sequence[RequestRecord], start_s: float, end_s: float) -> Baseline:
    """The load due between two seconds, which must hold at least one request."""
    due = [r for r in records if start_s <= r.due_s < end_s]
    waits = [r.latency_s for r in due]
    return Baseline(
        float(np.quantile(waits, 0.99)), float(np.median(waits)), len(due), sum(r.error is not None for r in due)
    )  # fmt: skip


def is_steady(
    records: Sequence[RequestRecord], start_s: float, end_s: float, window_s: float, tolerance: float
) -> bool:  # fmt: skip
    """Whether no window of a load, by due time, has a P99 beyond `tolerance` times that of the median window.

    Recovery is judged by the same tolerance, so a load that exceeds it without a fault cannot define what is normal.
    """
    windows = math.floor((end_s - start_s) / window_s)
    due: list[list[float]] = [[] for _ in range(windows)]
    for record in records:
        number = math.floor((record.due_s - start_s) / window_s)
        if 0 <= number < windows:
            due[number].append(math.inf if record.error else record.latency_s)
    p99s = [_p99(waits) for waits in due if waits]
    return not p99s or max(p99s) <= tolerance * float(np.median(p99s)) < math.inf


def recovered_s(
    records: Sequence[RequestRecord], fault_s: float, known_until_s: float, limit_s: float, window_s: float,
    calm_s: float,
) -> float | None:  # fmt: skip
    """Seconds from the fault until P99 was normal again and stayed so.

    P99 is computed in windows of `window_s`, by due time, that overlap by three quarters. A window with a failure is
    not normal. P99 has recovered where every window that begins within the next `calm_s` is normal.

    Args:
        records: Requests of the load, in any order.
        fault_s: Second of the load at which the fault began.
        known_until_s: All requests due before this second have been answered or have failed.
        limit_s: Highest normal P99.
        window_s: Length of a window.
        calm_s: How long P99 must stay normal.

    Returns:
        0 where P99 stayed normal; None where it has not recovered, or where no window is complete yet.
    """
    step_s = window_s / _STEPS
    windows = max(0, math.floor((known_until_s - fault_s - window_s) / step_s) + 1)
    due: list[list[float]] = [[] for _ in range(windows)]
    for record in records:
        last = math.floor((record.due_s - fault_s) / step_s)
        for number in range(max(0, last - _STEPS + 1), min(windows, last + 1)):
            due[number].append(math.inf if record.error else record.latency_s)
    needed = math.ceil(calm_s / step_s)
    calm = 0
    for number, waits in enumerate(due):
        calm = calm + 1 if not waits or _p99(waits) <= limit_s else 0
        if calm > needed:
            return (number - needed) * step_s
    return None


def _p99(waits: Sequence[float]) -> float:
    """The 99th percentile without interpolation, so that an infinite value among few is not averaged away."""
    ordered = sorted(waits)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Harm:
    """Effect of a fault on the load.

    Attributes:
        requests: Requests in flight at the fault, or due from then until P99 had recovered.
        lost: Class of error -> number of requests that failed with it.
        delayed: Number of requests that were answered later than is normal.
        longest_s: The longest of their latencies.
        who: Who was affected, in words.
    """

    requests: int
    lost: Mapping[str, int]
    delayed: int
    longest_s: float
    who: str


def harm(records: Sequence[RequestRecord], fault_s: float, until_s: float, limit_s: float) -> Harm:
    """Effect on the requests that were in flight at `fault_s`, or due between it and `until_s`."""
    population = [r for r in records if r.done_s >= fault_s and r.due_s < max(until_s, fault_s)]
    lost = [r for r in population if r.error is not None]
    delayed = [r for r in population if r.error is None and r.latency_s > limit_s]
    return Harm(
        requests=len(population),
        lost=dict(Counter(str(r.error) for r in lost)),
        delayed=len(delayed),
        longest_s=max((r.latency_s for r in population), default=0.0),
        who=_who(population, {id(r) for r in (*lost, *delayed)}, fault_s),
    )


def _who(population: Sequence[RequestRecord], hit: set[int], fault_s: float) -> str:
    if not hit:
        return "nobody"
    later = [r for r in population if r.due_s >= fault_s]
    if not any(id(r) in hit for r in later):
        return "one request" if len(hit) == 1 else f"one instance: {len(hit)} requests that it had in flight"
    share = len(hit) / len(population)
    if share >= _ALL:
        return "all"
    return "one request" if len(hit) == 1 else f"{share:.0%} of requests"
