"""Confidence intervals that respect how load-test data depend on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes three seconds to import

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
BATCHES = 10
RESAMPLES = 400
_MAX_RESAMPLED_VALUES = 20_000


def rate_interval(times_s: Sequence[float], start_s: float, end_s: float) -> tuple[float, float, float]:
    """Events per second with its interval, by non-overlapping batch means.

    Neighbouring completions are correlated (they share batches of the engine), so the window is cut into ten equal
    batches whose rates are nearly independent, and a t interval is put around their mean.
    Source: Law, "Simulation Modeling and Analysis", section 9.5.3.

    Args:
        times_s: Event times within [start_s, end_s).
        start_s: Start of the window.
        end_s: End of the window, after `start_s`.

    Returns:
        (rate, low, high) in events per second; `low` is never negative.
    """
    counts, _ = np.histogram(times_s, bins=BATCHES, range=(start_s, end_s))
    rates = counts * BATCHES / (end_s - start_s)
    mean = float(rates.mean())
    half = float(stdtrit(BATCHES - 1, (1 + CONFIDENCE) / 2) * rates.std(ddof=1) / math.sqrt(BATCHES))
    return mean, max(0.0, mean - half), mean + half


def block_bootstrap(
    values: Sequence[float], statistic: Callable[[Floats], Floats], seed: int = 0
) -> tuple[float, float, float]:
    """A statistic of a dependent series with its percentile interval, by the circular block bootstrap.

    Blocks of about the square root of n neighbours keep the dependence between them.
    Source: Politis and Romano, "A circular block-resampling procedure for stationary data", 1992.

    Args:
        values: The series in time order, shape (n,), n >= 1.
        statistic: Maps resamples of shape (resamples, n) to shape (resamples,).
        seed: Seed of the resampling, so that the same records always give the same interval.

    Returns:
        (value, low, high).
    """
    series = np.asarray(values, dtype=np.float64)
    n = len(series)
    value = float(statistic(series[None, :])[0])
    block = max(1, round(math.sqrt(n)))
    blocks = math.ceil(n / block)
    rng = np.random.default_rng(seed)
    # Long series are resampled a slice at a time: memory stays bounded whatever the number of requests.
    rows = max(1, min(RESAMPLES, _MAX_RESAMPLED_VALUES * 50 // n))
    drawn: list[Floats] = []
    for first in range(0, RESAMPLES, rows):
        starts = rng.integers(0, n, size=(min(rows, RESAMPLES - first), blocks))
        index = (starts[:, :, None] + np.arange(block)).reshape(len(starts), -1)[:, :n] % n
        drawn.append(statistic(series[index]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return value, float(min(low, value)), float(max(high, value))


def quantile_interval(values: Sequence[float], quantile: float) -> tuple[float, float, float]:
    """A quantile with its block-bootstrap interval; see `block_bootstrap`."""
    return block_bootstrap(values, lambda x: np.quantile(x, quantile, axis=-1))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """A mean with its block-bootstrap interval; see `block_bootstrap`."""
    return block_bootstrap(values, lambda x: x.mean(axis=-1))


def proportion_interval(hits: int, n: int) -> tuple[float, float, float]:
    """A share with its Wilson score interval, which stays within [0, 1] even at 0 of n.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if n == 0:
        return 0.0, 0.0, 1.0
    z, share = float(ndtri((1 + CONFIDENCE) / 2)), hits / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, max(0.0, min(share, center - half)), min(1.0, max(share, center + half))  # rounding at 0 and n
