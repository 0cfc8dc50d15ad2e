"""Steady state of a load: where the transient ends, and whether the rest still drifts. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from objectives import RequestRecord

_BATCH = 5
_FEWEST_BATCHES, _LAST_BATCHES = 6, 5
_FEWEST_PER_HALF = 3
_PILE_SHARE, _PILE_ROOTS = 0.1, 3.0
_NEGLIGIBLE, _TREND_P = 0.05, 0.02


def truncation(values: Sequence[float], in_flight: float = 1.0) -> int | None:
    """Number of first values that belong to the transient, by MSER-5.

    The cut is where the standard error of the mean of the rest is smallest, over means of five values (or of as many as
    are in flight together, where that is more, for those depend on each other). No cut is considered in the second half
    or among the last batches, where a few similar values look settled; if the rest still has a trend, the transient
    goes on.
    Source: White, "An effective truncation heuristic for bias reduction in simulation output", 1997; White, Cobb and
    Spratt, "A comparison of five steady-state truncation heuristics for simulation", 2000; the second half and the
    last batches: Hoad, Robinson and Davies, "Automating warm-up length estimation", 2010; the trend: Mann,
    "Nonparametric tests against trend", 1945.

    Args:
        values: One per request, in the order in which they were due.
        in_flight: Mean number of requests in flight.

    Returns:
        Number of values to cut; None while the series has not settled, or is too short to tell.
    """
    batch = _batch(in_flight)
    means = _batch_means(values, batch)
    k = len(means)
    if k < _FEWEST_BATCHES:
        return None
    cuts = range(min(k // 2, k - _LAST_BATCHES) + 1)
    best = int(np.argmin([means[d:].var() / (k - d) for d in cuts]))
    rest, middle = means[best:], (k - best) // 2
    # The best of the cuts allowed may lie within the transient still; noise, or a trace of a trend, is none.
    changed = abs(float(rest[middle:].mean() - rest[:middle].mean())) > _NEGLIGIBLE * float(rest.mean())
    return None if changed and _trend_p(rest) < _TREND_P else best * batch


def steady_since_s(records: Sequence[RequestRecord], answered_until_s: float, in_flight: float) -> float | None:
    """Due time of the first request of the steady state; None while the load has not settled.

    Args:
        records: Requests of the load that have ended, in any order.
        answered_until_s: Requests due later are left out, for only the quick ones among them have ended.
        in_flight: Mean number of requests in flight.
    """
    ended = sorted((r for r in records if r.due_s < answered_until_s), key=lambda r: r.due_s)
    cut = truncation([r.latency_s for r in ended], in_flight)
    return None if cut is None else ended[cut].due_s


class Drift(NamedTuple):
    """Mean latencies of a window's halves that differ, in seconds."""

    first_s: float
    second_s: float

    def __str__(self) -> str:
        return f"mean latency went from {self.first_s:.3g} to {self.second_s:.3g} s within the window"


def drift(records: Sequence[RequestRecord], in_flight: float, significance: float) -> Drift | None:
    """The latencies of the halves if they differ by more than chance and by more than 5 %; else None.

    Welch's test on means of batches long enough to be nearly independent of each other.
    Source: Welch, "The generalization of Student's problem when several different population variances are involved",
    1947; batches: Law, "Simulation Modeling and Analysis", section 9.5.3.

    Args:
        records: Requests due in the window.
        in_flight: Mean number of requests in flight.
        significance: Probability of a false alarm; 0 never alarms.
    """
    latencies = [r.latency_s for r in sorted(records, key=lambda r: r.due_s)]
    middle = len(latencies) // 2
    halves = [_batch_means(half, _batch(in_flight)) for half in (latencies[:middle], latencies[middle:])]
    if min(map(len, halves)) < _FEWEST_PER_HALF:
        return None
    first, second = (float(half.mean()) for half in halves)
    if abs(second - first) <= _NEGLIGIBLE * first or _welch(*halves) >= significance:
        return None
    return Drift(first, second)


def backlog(due: int, ended: int) -> str | None:
    """How requests of an open loop pile up: more were due in the window than ended in it, beyond chance.

    In a steady state the difference is that of the numbers in flight at both ends of the window, whatever its length;
    independent arrivals scatter by the square root of their number.

    Args:
        due: Requests due in the window.
        ended: Requests that ended in it.

    Returns:
        The numbers in words; None where requests do not pile up.
    """
    if due - ended <= max(_PILE_SHARE * due, _PILE_ROOTS * math.sqrt(due)):
        return None
    return f"requests pile up: {due} were due within the window, and {ended} ended"


def _trend_p(values: NDArray[np.float64]) -> float:
    """P value of no trend, by the normal approximation of Mann's statistic."""
    k = len(values)
    rising = float(np.sign(np.subtract.outer(values, values))[np.tril_indices(k, -1)].sum())
    spread = math.sqrt(k * (k - 1) * (2 * k + 5) / 18)
    return 2 * float(ndtr(-abs(rising) / spread)) if spread else 1.0


def _welch(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """P value of equal means."""
    errors = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    both = sum(errors)
    if both == 0:
        return 0.0 if a.mean() != b.mean() else 1.0
    freedom = both**2 / sum(e**2 / (len(x) - 1) for e, x in zip(errors, (a, b), strict=True))
    return 2 * float(stdtr(freedom, -abs(float(a.mean() - b.mean())) / math.sqrt(both)))


def in_flight(records: Sequence[RequestRecord], start_s: float, end_s: float) -> float:
    """Mean number of requests in flight between two times, from when each was due until it was answered.

    Source: Little, "A proof for the queuing formula L = λW", 1961.
    """
    if end_s <= start_s:
        return 0.0
    return sum(max(0.0, min(r.done_s, end_s) - max(r.due_s, start_s)) for r in records) / (end_s - start_s)


def _batch(in_flight: float) -> int:
    return max(_BATCH, math.ceil(in_flight))


def _batch_means(values: Sequence[float], batch: int) -> NDArray[np.float64]:
    """Means of whole batches; the first values of the series are left out where they do not fill one."""
    series = np.asarray(values, dtype=np.float64)
    rest = len(series) % batch
    return np.asarray(series[rest:].reshape(-1, batch).mean(axis=1))
