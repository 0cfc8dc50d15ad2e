"""The response: what share of requests meets a criterion at a level of load, and the level where it falls to the least.

The share is modelled as a Weibull curve, share(level) = least ** ((level / capacity) ** steepness), which passes the
least share exactly at the capacity and falls from 1 to 0 with the load; a cliff is a very steep one. In an M/M/1 queue
the logarithm of the share that is too late is linear in the rate, and so is that of this curve, near the capacity, in
the logarithm of the rate. Capacity, steepness and drift have a joint posterior on a grid. All probes are put to use,
those near the capacity the most.

Requests that miss come in clumps, so that the misses of a probe vary more than independent ones and are often none at
all: their number is beta-binomial. Where more of them are expected than a probe has seen, they clump more than it says.

A probe may end before the queue of an overload has grown to the limit. One that seems to hold is therefore one at its
level, or at any level below it down to where the overload would have shown: the likelihood is the mean over these.

Sources: Watson and Pelli, "QUEST: a Bayesian adaptive psychometric method", 1983 (threshold of a Weibull curve by its
posterior); Kontsevich and Tyler, "Bayesian adaptive estimation of psychometric slope and threshold", 1999 (slope along
with it); Williams, "The analysis of binary responses from toxicological experiments involving reproduction and
teratogenicity", 1975 (beta-binomial counts); Kleinrock, "Queueing Systems", volume 1, 1975, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, logsumexp

from optimize.capacity.requests import Floats

_STEEPNESS = np.geomspace(2.0, 3000.0, 15)
_GENTLE = 0.5
"""Weight of a steepness before any probe: its power of minus so much, on a logarithmic scale. Without it, the search
would end too often where a few probes look like a cliff by chance."""
_DRIFTS, _DRIFT_SPREAD = np.linspace(-0.15, 0.15, 7), 0.05
_CAPACITIES = 64
_NEGLIGIBLE = 1e-5
TRUSTED = (0.25, 8.0)
"""Where the curve is trusted: from a quarter of the misses that the least share allows to eight times as many.

Beyond, a level says no more than that the curve is beyond, too: of few misses at a low load, some have other reasons
than the load, and an overloaded engine misses the more the longer it is watched.
"""
_UNSEEN = (0.0, 0.25, 0.5, 0.75)
"""Overloads that a probe may have hidden, as shares of the largest, which itself shows as a few late answers."""
_CLUMPING = 0.3
"""Power of the misses' rate by which they clump more: a probe with few misses by luck had a short queue, too, and shows
less of both than there is. Without it, all intervals that miss the truth lie above it. Calibrated."""
_FAR = 20.0
"""How many times as many misses as are allowed a probe that shows few of them is held against: an overload that large
would have shown, for all that the curve is not to be trusted there."""
_RATIOS = np.linspace(math.log(TRUSTED[0]), math.log(_FAR), 160)


@dataclass(frozen=True, slots=True)
class Counts:
    """What one probe has shown of one criterion.

    Attributes:
        level: Of the load.
        at_s: Middle of the probe in seconds of load since the search began.
        requests: Number of requests after the warm-up.
        misses: How many of them did not meet the criterion.
        dispersion: Variance of the misses as a ratio to that of independent requests, at least 1.
        unseen: The largest overload, as a share of the rate that the engine can answer, that it is too short to show.
        surplus: Logarithm of the rate that arrived as a ratio to the level: at random, a few more or less do.
    """

    level: float
    at_s: float
    requests: int
    misses: int
    dispersion: float
    unseen: float = 0.0
    surplus: float = 0.0


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is known of the capacity.

    Attributes:
        logs: Logarithms of capacities, ascending, evenly spaced; shape (capacities,).
        weights: Their probabilities, which sum to 1.
        steepness: The mean of its logarithm, as a steepness.
        drift: Mean ratio of the capacity at the end of the search to that at its beginning.
    """

    logs: Floats
    weights: Floats
    steepness: float
    drift: float

    def quantile(self, probability: float) -> float:
        """The capacity below which it lies with this probability."""
        step = self.logs[1] - self.logs[0]
        ends = np.concatenate([[self.logs[0] - step / 2], self.logs + step / 2])
        return math.exp(np.interp(probability, np.concatenate([[0.0], np.cumsum(self.weights)]), ends))


def posterior(counts: Sequence[Counts], least: float, dof: float, bounds: tuple[float, float]) -> Posterior:
    """The posterior of a criterion's capacity, where all capacities within the bounds are equally likely at first.

    With the dispersion estimated, twice the loss of log-likelihood is not a chi-square but an F variable; raised to the
    power of a Student's t, the likelihood has tails as heavy as that.

    Args:
        counts: Of every probe; at least one. The capacity is that at the time of the mean request.
        least: The least share of requests that meet the criterion.
        dof: Degrees of freedom of the dispersions.
        bounds: The lowest and the highest capacity that are considered.
    """
    low, high = math.log(bounds[0]), math.log(bounds[1])
    coarse = _on_grid(counts, least, dof, np.linspace(low, high, _CAPACITIES))
    likely = np.flatnonzero(coarse.weights > _NEGLIGIBLE * coarse.weights.max())
    step = (high - low) / (_CAPACITIES - 1)
    low, high = max(low, coarse.logs[likely[0]] - step), min(high, coarse.logs[likely[-1]] + step)
    return _on_grid(counts, least, dof, np.linspace(low, high, _CAPACITIES))


def misfit(fit: Posterior, counts: Sequence[Counts], least: float) -> float:
    """How much farther than their dispersions say the misses of probes lie from the fitted curve, as a variance ratio.

    Pearson's statistic over its degrees of freedom; at least 1. It shows what no probe by itself can: an engine that
    behaves differently from one probe to the next.
    Source: McCullagh and Nelder, "Generalized Linear Models", 1989, section 4.5.
    """
    total, within = 0.0, 0
    for c in counts:
        steps = math.log(c.level / fit.quantile(0.5)) * fit.steepness
        curve = math.exp(steps + min(fit.steepness, _steepest(c, least)) * c.surplus)
        ratio = min(max(curve, TRUSTED[0]), TRUSTED[1])
        expected = c.requests * (1 - least**ratio)
        excess = c.misses - expected
        if (excess < 0 and curve < ratio) or (excess > 0 and curve > ratio):
            continue  # beyond, as the curve says
        within += 1
        total += excess**2 / (expected * least**ratio * c.dispersion)
    return max(1.0, total / max(within - 2, 1))


def _on_grid(counts: Sequence[Counts], least: float, dof: float, logs: Floats) -> Posterior:
    fit = _log_likelihood(counts, least, logs)
    loss = 2 * (fit.max() - fit)
    density = (1 + loss / dof) ** (-(dof + 1) / 2)
    density *= np.exp(-((_DRIFTS / _DRIFT_SPREAD) ** 2) / 2)[:, None]
    density *= (_STEEPNESS**-_GENTLE)[:, None, None]
    density /= density.sum()
    steepness = math.exp(density.sum((1, 2)) @ np.log(_STEEPNESS))
    drift = math.exp(density.sum((0, 2)) @ _DRIFTS)
    return Posterior(logs, density.sum((0, 1)), steepness, drift)


def _log_likelihood(counts: Sequence[Counts], least: float, logs: Floats) -> Floats:
    """Shape (steepness, drifts, capacities)."""
    at_s = np.array([c.at_s for c in counts])
    middle_s = np.average(at_s, weights=[c.requests for c in counts])
    when = (at_s - middle_s) / max(float(np.ptp(at_s)), 1e-9)
    total, steepness = np.zeros((len(_STEEPNESS), len(_DRIFTS), len(logs))), _STEEPNESS[:, None, None]
    for c, time in zip(counts, when, strict=True):
        beyond = math.log(c.level) - logs - time * _DRIFTS[:, None]
        by_ratio, more = _by_ratio(c, least), np.minimum(steepness, _steepest(c, least)) * c.surplus
        fits = [
            np.interp(steepness * (beyond - share * math.log1p(c.unseen)) + more, _RATIOS, by_ratio)
            for share in (_UNSEEN if c.unseen else (0.0,))
        ]
        total += logsumexp(fits, axis=0) - math.log(len(fits))
    return total


def _steepest(counts: Counts, least: float) -> float:
    """The steepest response to the number of arrivals that explains no more of the misses' variance than there is.

    The response to a rate is the covariance with the number of Poisson arrivals, over its mean (likelihood ratio:
    Glynn, "Likelihood ratio gradient estimation for stochastic systems", 1990), which Cauchy and Schwarz bound.
    """
    return math.sqrt(counts.dispersion * least / (1 - least))


def _by_ratio(counts: Counts, least: float) -> Floats:
    """Log-likelihood of a probe by the logarithm of its misses' rate, as a ratio to the rate that is allowed."""
    n, k = counts.requests, counts.misses
    overloaded = 1 - k / n < least ** TRUSTED[1]
    share = np.exp(math.log(least) * np.exp(np.minimum(_RATIOS, math.log(TRUSTED[1])) if overloaded else _RATIOS))
    seen = math.log(min(max(k / n / (1 - least), TRUSTED[0]), TRUSTED[1]))
    ratio = 1 + max(counts.dispersion - 1, 0.01) * np.exp(_CLUMPING * (_RATIOS - seen))
    ratio = np.minimum(ratio, max(n / 2, 1.01))
    size = np.maximum(n - ratio, 1.0) / (ratio - 1)
    hits, misses = share * size, (1 - share) * size
    return np.asarray(betaln(k + misses, n - k + hits) - betaln(misses, hits), dtype=np.float64)
