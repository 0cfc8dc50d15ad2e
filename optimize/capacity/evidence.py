"""What a probe shows: its misses after the warm-up, and how much these depend on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from optimize.capacity.probing import ProbeRun
from optimize.capacity.requests import Floats, Requests
from optimize.capacity.slo import ERRORS, JOINT, Quantity, Slo

_BLOCKS = 10
_STEEP = 6.0
WARM_UP = 0.15
"""Share of a probe before the requests that count."""


def dof_of(dispersions: Floats, requests: Floats) -> Floats:
    """Degrees of freedom of dispersions by so many requests each; all have the shape (probes,).

    Those of the blocks, less what `_of_long_stretches` adds to their error: where the blocks are hardly longer than the
    clumps, a little more in the blocks is much more in a long stretch (delta method).
    """
    x = np.minimum(dispersions / (2 * requests / _BLOCKS), 1.0)
    seen = np.exp(-1 / x)
    error = 2 * (1 - x * (1 - seen)) / (2 - 4 * x * (1 - seen) + 2 * seen)
    dof: Floats = (_BLOCKS - 1) / error**2
    return dof


def settled(requests: Requests, slo: Slo, load_s: float) -> Requests:
    """The requests after the warm-up of which it is known by now whether they meet the SLO.

    The warm-up is the first 15 % of the load: a probe lasts for many correlation times of its engine, and an empty
    engine fills within one or two. While the load runs, only the quick ones of the last requests have been answered:
    those younger than an answer and a limit may take are left out, and older ones in flight have missed.
    """
    mask = requests.due_s >= WARM_UP * load_s
    if requests.in_flight.any():
        mask &= load_s - requests.due_s >= patience_s(requests, slo)
    return requests.where(mask)


def patience_s(requests: Requests, slo: Slo) -> float:
    """An age at which a request in flight is late beyond doubt."""
    answered = requests.latency_s[~requests.in_flight]
    usual_s = float(np.quantile(answered, 0.25)) if len(answered) else 0.0
    return 2 * (usual_s + max(limit.most_s for limit in slo.limits))


def counted_s(load_s: float) -> float:
    """Seconds of a probe after its warm-up."""
    return (1 - WARM_UP) * load_s


def answers_per_s(run: ProbeRun) -> float:
    """Answers per second while the load ran, without its warm-up."""
    requests, start_s = run.requests, WARM_UP * run.load_s
    done_s = (requests.due_s + requests.latency_s)[~requests.failed]
    return float(((done_s >= start_s) & (done_s < run.load_s)).sum()) / counted_s(run.load_s)


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


def along_levels(levels: Floats, dispersions: Floats, dof: Floats, allowance: float) -> Callable[[float], float]:
    """The dispersion at any level: it grows with the load by a power, which is fitted.

    Each dispersion is of ten blocks and off by a half, so a line through their logarithms is better than each alone;
    its slope is drawn towards 0 by as much as such errors suggest. The surest count most. The line is not continued to
    either side.

    Args:
        levels: At which dispersions are known, shape (probes,); at least one.
        dispersions: At these levels, shape (probes,).
        dof: Their degrees of freedom, shape (probes,).
        allowance: How much larger than it looks the dispersion is taken to be.
    """
    x, y, weights = np.log(levels), np.log(dispersions), dof / dof.sum()
    middle, height = float(weights @ x), float(weights @ y)
    slope = float(weights @ ((x - middle) * y)) / (float(weights @ (x - middle) ** 2) + 2 / dof.sum() / _STEEP**2)

    def at(level: float) -> float:
        beside = min(max(math.log(level), x.min()), x.max()) - middle
        return 1 + allowance * max(math.exp(height + slope * beside) - 1, 0.0)

    return at


def falling(values: Sequence[tuple[float, int]]) -> list[float]:
    """The values nearest to these that never rise: neighbours that do are replaced by their mean.

    Source: Barlow, Bartholomew, Bremner and Brunk, "Statistical Inference under Order Restrictions", 1972, section 1.2
    (pool adjacent violators).

    Args:
        values: (value, weight), in order.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in values:
        block = (value, weight + 1e-9, 1)
        while blocks and blocks[-1][0] < block[0]:
            mean, mass, length = blocks.pop()
            total = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / total, total, length + block[2])
        blocks.append(block)
    return [mean for mean, _, length in blocks for _ in range(length)]
