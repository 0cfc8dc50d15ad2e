"""A model of one figure over the search space that learns from few trials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from optimize.search.encoding import Array

_AMPLITUDE = 0.5
"""What is expected of each knob's own share of the variance, and of that of all together."""
_LEAST_NOISE = 1e-4
_BOUNDS = {"length": (-5.0, 5.0), "amplitude": (-9.0, 3.0), "noise": (-9.0, 0.0)}
_TINY = 1e-12


class GaussianProcess:
    """A Gaussian process that is a sum: a function of each knob alone, and one of all of them together.

    Most of what a knob does to an engine it does whatever the others are, and a handful of trials is enough to see it;
    the last term learns how they interact (Duvenaud, Nickisch and Rasmussen 2011, "Additive Gaussian processes",
    section 3, first and full order). Exponential kernels (Rasmussen and Williams 2006, equation 4.18): what an engine
    does has kinks, where a batch no longer fills or a cache overflows, and nothing smoother is taken for granted.
    Choices without an order are alike or not. Lengths, amplitudes and noise are the most probable ones under weak
    priors.

    Args:
        rows: Shape (trials, knobs), each knob from 0 to 1.
        values: Shape (trials,).
        categorical: Shape (knobs,): whose numbers mean nothing but alike or not.
        start: `parameters` of a model of the same knobs to begin the fit with.

    Attributes:
        parameters: Logarithms of what was fitted.
    """

    def __init__(self, rows: Array, values: Array, categorical: Any, start: Array | None = None) -> None:
        self._categorical = categorical
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        self._rows, self._values = rows, (values - self._mean) / self._scale
        knobs = rows.shape[1]
        prior = np.concatenate([np.zeros(knobs), np.full(knobs + 1, math.log(_AMPLITUDE)), [math.log(0.01)]])
        bounds = [_BOUNDS["length"]] * knobs + [_BOUNDS["amplitude"]] * (knobs + 1) + [_BOUNDS["noise"]]
        apart = self._apart(rows, rows)
        found = minimize(
            self._loss, prior if start is None else start, (apart, prior), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"gtol": 1e-2},
        )  # fmt: skip
        self.parameters: Array = found.x
        self._solve()

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Expected value at each of these rows, and its standard deviation without the noise of a measurement."""
        covariance = self._kernel(self._apart(rows, self._rows))
        mean = covariance @ cho_solve(self._factor, self._values)
        known = np.einsum("ij,ij->i", covariance, cho_solve(self._factor, covariance.T).T)
        variance = np.maximum(self._split()[1].sum() - known, 1e-12)
        return mean * self._scale + self._mean, np.sqrt(variance) * self._scale

    def sample(self, rows: Array, n: int, rng: np.random.Generator) -> Array:
        """Joint draws of the values at these rows, without the noise of a measurement; shape (n, rows)."""
        covariance = self._kernel(self._apart(rows, self._rows))
        mean = covariance @ cho_solve(self._factor, self._values)
        remaining = self._kernel(self._apart(rows, rows)) - covariance @ cho_solve(self._factor, covariance.T)
        drawn: Array = rng.multivariate_normal(mean, remaining, size=n, method="eigh", check_valid="ignore")
        return drawn * self._scale + self._mean

    @property
    def noise(self) -> float:
        """Standard deviation of the noise of a measurement."""
        return math.sqrt(self._noise()) * self._scale

    def fantasize(self, rows: Array) -> None:
        """Take for measured what is expected at these rows, which are under way (Ginsbourger, Le Riche and Carraro
        2010, "Kriging is well-suited to parallelize optimization", section 3.2)."""
        expected = (self.predict(rows)[0] - self._mean) / self._scale
        self._rows, self._values = np.vstack([self._rows, rows]), np.concatenate([self._values, expected])
        self._solve()

    def _solve(self) -> None:
        covariance = self._kernel(self._apart(self._rows, self._rows))
        self._factor = cho_factor(covariance + self._noise() * np.eye(len(self._rows)), lower=True)

    def _apart(self, left: Array, right: Array) -> Array:
        """Squared differences, shape (knobs, left, right)."""
        squared: Array = (left.T[:, :, None] - right.T[:, None, :]) ** 2
        squared[self._categorical] = squared[self._categorical] > 0
        return squared

    def _split(self, parameters: Array | None = None) -> tuple[Array, Array]:
        """Inverse squared lengths of the knobs; amplitudes of the knobs, and of all together."""
        found = np.exp(self.parameters if parameters is None else parameters)
        knobs = self._rows.shape[1]
        return found[:knobs], found[knobs:-1]

    def _noise(self) -> float:
        return float(np.exp(self.parameters[-1])) + _LEAST_NOISE

    def _kernel(self, apart: Array) -> Array:
        lengths, amplitudes = self._split()
        scaled = lengths[:, None, None] * apart
        each: Array = np.einsum("k,kij->ij", amplitudes[:-1], _exponential(scaled)[0])
        together: Array = each + amplitudes[-1] * _exponential(scaled.sum(0))[0]
        return together

    def _loss(self, parameters: Array, apart: Array, prior: Array) -> tuple[float, Array]:
        """Negative logarithm of the posterior density, and its gradient."""
        lengths, amplitudes = self._split(parameters)
        noise = math.exp(parameters[-1])
        scaled = lengths[:, None, None] * apart
        (each, each_slope), (whole, whole_slope) = _exponential(scaled), _exponential(scaled.sum(0))
        covariance = np.einsum("k,kij->ij", amplitudes[:-1], each) + amplitudes[-1] * whole
        covariance[np.diag_indices_from(covariance)] += noise + _LEAST_NOISE
        factor = cho_factor(covariance, lower=True)
        weights = cho_solve(factor, self._values)
        loss = np.log(np.diag(factor[0])).sum() + 0.5 * self._values @ weights
        outer = 0.5 * (cho_solve(factor, np.eye(len(covariance))) - np.outer(weights, weights))
        slopes = scaled * (amplitudes[:-1, None, None] * each_slope + amplitudes[-1] * whole_slope)
        gradient = np.concatenate([
            np.einsum("ij,kij->k", outer, slopes),
            amplitudes[:-1] * np.einsum("ij,kij->k", outer, each),
            [amplitudes[-1] * np.sum(outer * whole), noise * np.trace(outer)],
        ])  # fmt: skip
        # Lengths of the order of the range, amplitudes within a factor of three of what is expected, little noise.
        knobs = len(lengths)
        loss += 0.1 * (1 / lengths + lengths).sum() - 0.1 * parameters[-1] + 30 * noise
        gradient[:knobs] += 0.1 * (lengths - 1 / lengths)
        gradient[-1] += 30 * noise - 0.1
        off = parameters[knobs:-1] - prior[knobs:-1]
        gradient[knobs:-1] += off
        return float(loss + 0.5 * off @ off), gradient


def _exponential(squared: Array) -> tuple[Array, Array]:
    """The kernel at squared distances, and its slope there."""
    root = np.sqrt(squared + _TINY)
    fall = np.exp(-root)
    return fall, -0.5 * fall / root
