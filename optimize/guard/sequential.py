"""How far a mean must be from a limit before one may say so, when one looks after every round. Pure.

Whoever looks after every round, and stops at the first difference that is "significant", errs far more often than in
5 % of the cases. So the error is spent over the looks, in proportion to the time that has passed of the time that there
is (Lan and DeMets, "Discrete sequential boundaries for clinical trials", 1983, and "Group sequential procedures:
calendar versus information time", 1989); how many rounds that will be need not be known. Each boundary is the value at
which the probability to cross it for the first time, of a mean of normal values, is what that look may spend; it
follows by integration from look to look (Armitage, McPherson and Rowe, "Repeated significance tests on accumulating
data", 1969). The rounds' variance is not known, so the boundary's level is taken to Student's t (the significance level
approach: Jennison and Turnbull, "Group Sequential Methods", 2000, section 3.8). With few rounds that spends up to a
third more than it should, so the boundaries are those of `_SPENT` of the error; `benchmarks/guard_simulated.py`
measures what remains.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from optimize.decision.block_design import Array

LEAST_ROUNDS = 3
"""Rounds before the first look: a variance of two values says next to nothing."""
MOST_ROUNDS = 300
_SPENT = 0.75
_STEP = 0.05
_REACH = 8.0
"""Standard deviations that the integration covers on either side."""


Shares = tuple[float, ...]
"""Share of the error that may be spent by each look, ascending to at most 1; the first is after LEAST_ROUNDS rounds."""


def level(shares: Shares, error: float) -> float:
    """One-sided level of the last of these looks, so that the probability to cross any boundary is at most `error`.

    Args:
        shares: Of all looks so far, at most one for each round up to MOST_ROUNDS.
        error: The error over all looks.
    """
    boundary, _ = _look(shares, error)
    return float(ndtr(-boundary / math.sqrt(LEAST_ROUNDS - 1 + len(shares))))


@lru_cache(maxsize=4096)
def _look(shares: Shares, error: float) -> tuple[float, Array]:
    """The boundary of the last look's sum, and the density of sums that have crossed none."""
    if len(shares) == 1:
        density, spent = _STEP * _normal(_SUMS / math.sqrt(LEAST_ROUNDS)) / math.sqrt(LEAST_ROUNDS), 0.0
    else:
        density = np.asarray(np.convolve(_look(shares[:-1], error)[1], _ROUND, mode="same"), dtype=np.float64)
        spent = shares[-2]
    boundary = _boundary(density, _SPENT * error * (shares[-1] - spent))
    return boundary, np.where(boundary > _SUMS, density, 0.0)


def _grid(half: int) -> Array:
    return np.asarray(_STEP * np.arange(-half, half + 1), dtype=np.float64)


def _normal(x: Array) -> Array:
    return np.asarray(np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi))


_SUMS = _grid(math.ceil(_REACH * math.sqrt(MOST_ROUNDS) / _STEP))
_ROUND = _STEP * _normal(_grid(math.ceil(_REACH / _STEP)))
"""What a further round adds to a sum."""


def _boundary(density: Array, share: float) -> float:
    """The sum beyond which the density holds this share of the probability."""
    beyond = np.cumsum(density[::-1])[::-1]
    at = int(np.searchsorted(-beyond, -share, side="right"))  # the first sum beyond which no more than the share lies
    at = min(max(at, 1), len(_SUMS) - 1)
    here, before = float(beyond[at]), float(beyond[at - 1])
    part = (share - here) / (before - here) if before > here else 0.0
    return float(_SUMS[at]) - _STEP * (part + 0.5)


def quantile(level: float, freedom: float) -> float:
    """Standard errors beyond which a share of `level` lies; by Student's t with these degrees of freedom."""
    return float(-ndtri(level) if math.isinf(freedom) else -stdtrit(freedom, level))
