"""Confidence intervals for dependent data, as load tests give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit  # scipy.stats takes three seconds to import

from objectives import Estimate

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
BATCHES = 10
_BINS = 120
_LONGEST = 1 / 4
"""Length of the longest stretch whose counts are compared, as a share of the window."""


def rate_interval(times_s: Sequence[float], start_s: float, end_s: float) -> tuple[float, float, float]:
    """Events per second with its interval, from the spectrum of the counts at frequency zero.

    Completions are correlated, for requests share batches of the engine: often they come in clumps, one clump a step,
    which long stretches average out and short ones take for noise. Parzen's lag window weighs the counts of stretches
    of all lengths up to a quarter of the window, and hardly sees a clump that returns six times or more in it. The
    interval around the rate is Student's t, with the degrees of freedom of such a sum of squares for independent
    counts.
    Sources: Heidelberger and Welch, "A spectral method for confidence interval generation and run length control in
    simulations", 1981; Priestley, "Spectral Analysis and Time Series", 1981, section 6.2.3 (Parzen's window);
    Satterthwaite, "An approximate distribution of estimates of variance components", 1946.

    Args:
        times_s: Event times within [start_s, end_s).
        start_s: Start of the window.
        end_s: End of the window, after `start_s`.

    Returns:
        (rate, low, high) in events per second; `low` is never negative.
    """
    counts, _ = np.histogram(times_s, bins=_BINS, range=(start_s, end_s))
    weights, dof = _long_run()
    width_s = (end_s - start_s) / _BINS
    rate, variance = float(counts.mean()) / width_s, max(float(counts @ weights @ counts), 0.0)
    half = float(stdtrit(dof, (1 + CONFIDENCE) / 2)) * math.sqrt(variance / _BINS) / width_s
    return rate, max(0.0, rate - half), rate + half


@cache
def _long_run() -> tuple[Floats, float]:
    """W, shape (bins, bins), and its degrees of freedom: the quadratic form of W in the counts estimates the variance
    of a bin, as long sums suggest it.

    Scaled to be unbiased for independent counts, of whose variance taking out the mean would cost a fifth.
    """
    lag = np.abs(np.subtract.outer(np.arange(_BINS), np.arange(_BINS))) / (_BINS * _LONGEST)
    parzen = np.where(lag < 0.5, 1 - 6 * lag**2 * (1 - lag), 2 * np.maximum(1 - lag, 0) ** 3)
    weights = parzen - parzen.mean(0) - parzen.mean(1, keepdims=True) + parzen.mean()
    weights /= np.trace(weights)
    return weights, float(1 / np.sum(weights**2))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a dependent series with its interval, by non-overlapping batch means.

    Neighbours are correlated, so the series is cut into ten batches whose means are nearly independent; the interval
    around their mean is Student's t.
    Source: Law, "Simulation Modeling and Analysis", section 9.5.3.

    Args:
        values: The series in time order, shape (n,), n >= 1.

    Returns:
        (value, low, high); of a single value, the value itself.
    """
    series = np.asarray(values, dtype=np.float64)
    value, (_, low, high) = float(series.mean()), _around_mean(_batch_means(series))
    return value, min(low, value), max(high, value)


def quantile_interval(values: Sequence[float], quantile: float) -> tuple[float, float, float]:
    """Quantile of a dependent series with its interval.

    The share of values below the estimate has an interval like any proportion, here with the effective sample size
    that batch means give for the series; the quantiles of the series at its ends bound the quantile.
    Sources: Woodruff, "Confidence intervals for medians and other position measures", 1952 (inverting the proportion);
    Clopper and Pearson, "The use of confidence or fiducial limits", 1934; Korn and Graubard, "Confidence intervals for
    proportions with small expected number of positive counts", 1998 (effective number of values).

    With n values nothing bounds a quantile q from above unless q^n is small: for P99 that takes about 370 independent
    values. With fewer, the upper end is the largest value, which lies below the true P99 too often.

    Args:
        values: The series in time order, shape (n,), n >= 1.
        quantile: Between 0 and 1.

    Returns:
        (value, low, high).
    """
    series = np.asarray(values, dtype=np.float64)
    value = float(np.quantile(series, quantile))
    n = _effective_size(series <= value, quantile)
    below, above, tail = quantile * n, (1 - quantile) * n, (1 - CONFIDENCE) / 2
    ends = [betaincinv(below, above + 1, tail), betaincinv(below + 1, above, 1 - tail)]
    low, high = np.quantile(series, ends)
    return value, float(min(low, value)), float(max(high, value))


def repeats_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over independent repeats with its interval, by Student's t; of one repeat, the value itself."""
    return _around_mean(np.asarray(values, dtype=np.float64))


def _effective_size(hits: NDArray[np.bool_], share: float) -> float:
    """Effective sample size of a series for estimating a share; at most its length.

    Few batches give a poor estimate of their variance: the size is reduced by what that costs a t interval.
    """
    n, means = len(hits), _batch_means(hits.astype(np.float64))
    batches = len(means)
    if n < 2 * BATCHES:
        return float(n)
    variance = float(means.var(ddof=1)) / batches
    size = min(float(n), share * (1 - share) / variance) if variance > 0 else float(n)
    upper = (1 + CONFIDENCE) / 2
    return max(1.0, size * float(ndtri(upper) / stdtrit(batches - 1, upper)) ** 2)


def _batch_means(series: Floats) -> Floats:
    """Means of ten batches of neighbours; the values themselves where there are fewer than twenty."""
    if len(series) < 2 * BATCHES:
        return series
    return np.array([batch.mean() for batch in np.array_split(series, BATCHES)])


def _around_mean(values: Floats) -> tuple[float, float, float]:
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return mean, mean, mean
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half


def proportion_interval(hits: int, n: int) -> tuple[float, float, float]:
    """Share with its Wilson score interval, which stays within [0, 1] even at 0 of n.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if n == 0:
        return 0.0, 0.0, 1.0
    z, share = float(ndtri((1 + CONFIDENCE) / 2)), hits / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, max(0.0, min(share, center - half)), min(1.0, max(share, center + half))  # rounding at 0 and n


def log_half(estimate: Estimate) -> float:
    """Half-width of a figure's interval in logarithms; the wider side where the interval is asymmetric.

    Downwards it is of first order, as a standard error is carried over to a logarithm (the delta method): the interval
    of a mean reaches as far down as up, and the logarithm of its lower end, which may be zero, would overstate that.
    """
    up = math.log(max(estimate.high, estimate.value) / estimate.value)
    down = 1 - min(estimate.low, estimate.value) / estimate.value
    return max(up, down)
