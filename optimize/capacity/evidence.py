"""What a probe shows: its misses after the warm-up, and how much these depend on each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.capacity.requests import Floats, Requests
from optimize.capacity.response import Noise
from optimize.capacity.slo import ERRORS, JOINT, Quantity, Slo

_BLOCKS = 10
_WARM_UP = 0.15
SEQUENTIAL = 2.0
"""How much larger than it looks the dispersion is where the search ends, for it ends where the interval is narrow."""


def settled(requests: Requests, slo: Slo, load_s: float) -> Requests:
    """The requests after the warm-up of which it is known by now whether they meet the SLO.

    The warm-up is the first 15 % of the load: a probe lasts for many correlation times of its engine, and an empty
    engine fills within one or two. While the load runs, only the quick ones of the last requests have been answered:
    those younger than an answer and a limit may take are left out, and older ones in flight have missed.
    """
    kept = requests.due_s >= _WARM_UP * load_s
    if requests.in_flight.any():
        kept &= load_s - requests.due_s >= patience_s(requests, slo)
    return requests.where(kept)


def patience_s(requests: Requests, slo: Slo) -> float:
    """An age at which a request in flight is late beyond doubt."""
    answered = requests.latency_s[~requests.in_flight]
    usual_s = float(np.quantile(answered, 0.25)) if len(answered) else 0.0
    return 2 * (usual_s + max(limit.most_s for limit in slo.limits))


def severity(requests: Requests, slo: Slo) -> dict[str, Floats]:
    """Criterion -> how far each request went towards its limit, as a share of it; infinite for a failed one."""
    lost = requests.failed | requests.in_flight
    ratios = {}
    for limit in slo.limits:
        times = np.nan_to_num(getattr(requests, limit.quantity), nan=0.0 if limit.quantity is Quantity.TPOT else np.inf)
        ratios[str(limit.quantity)] = np.where(lost, np.inf, times / limit.most_s)
    if slo.joint_share is not None:
        ratios = {JOINT: np.maximum.reduce(list(ratios.values()))}
    return ratios | {ERRORS: requests.failed.astype(np.float64)}


def dispersion(values: Floats, share: float) -> float:
    """Variance of the number of large values in a stretch of a series, as a ratio to that of independent values.

    Taken of the largest tenth of the values, it measures well how the misses clump, of which there may be too few
    to tell: the excursions of a queue above one length are like those above another, once it is long.
    Source: Law, "Simulation Modeling and Analysis", section 9.5.3 (batch means).

    Args:
        values: In order of arrival, shape (n,).
        share: Share of the values that are not large.

    Returns:
        At least 1; 1 for a series too short to tell.
    """
    n = len(values)
    if n < 2 * _BLOCKS:
        return 1.0
    large = values > np.quantile(values, share, method="lower")
    p = float(large.mean())
    if not 0 < p < 1:
        return 1.0
    counts = np.array([block.sum() for block in np.array_split(large, _BLOCKS)], dtype=np.float64)
    ratio = max(1.0, float(counts.var(ddof=1)) / (n / _BLOCKS * p * (1 - p)))
    return _of_long_stretches(ratio, n / _BLOCKS)


def _of_long_stretches(ratio: float, block: float) -> float:
    """The dispersion of long stretches by that of blocks of so many values, if correlations decay exponentially."""
    longer = ratio
    for _ in range(20):
        half = longer / 2
        longer = min(ratio / (1 - half / block * (1 - np.exp(-block / half))), 2 * block)
    return float(longer)


def correlation_s(values: Floats, load_s: float) -> float:
    """For how long requests depend on each other, in seconds; at most a tenth of the load."""
    return min(dispersion(values, 0.5) / max(len(values), 1), 1 / _BLOCKS) * load_s


def noise_of(dispersions: Sequence[float]) -> Noise:
    """The noise that probes near the capacity have in common.

    Args:
        dispersions: For each of them, the dispersion of the largest tenth of its values.
    """
    pooled = float(np.mean(dispersions)) * SEQUENTIAL
    return Noise(max(1.0, pooled), float(len(dispersions) * (_BLOCKS - 1)))
