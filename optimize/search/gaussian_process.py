"""A Gaussian process of one figure over the search space that learns from few trials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from optimize.search.encoding import Array

_AMPLITUDE = 0.5
"""Expected share of the variance of each knob alone, and of all together."""
_LEAST_NOISE = 1e-4
_BOUNDS = {"length": (-5.0, 5.0), "amplitude": (-9.0, 3.0), "noise": (-9.0, 0.0)}
_TINY = 1e-12


class GaussianProcess:
    """A Gaussian process that is a sum: a function of each knob alone, and one of all of them together.

    Most of a knob's effect on an engine is the same whatever the other knobs are, and a handful of trials shows it; the
    last term learns interactions (Duvenaud, Nickisch and Rasmussen 2011, "Additive Gaussian processes", section 3,
    first and full order). Kernels are exponential (Rasmussen and Williams 2006, equation 4.18): the figures of an
    engine have kinks, where a batch no longer fills or a cache overflows, so no smoothness is assumed. Choices without
    an order are alike or not. Lengths, amplitudes and noise are the most probable ones under weak priors.

    Args:
        rows: Shape (trials, knobs), each knob from 0 to 1.
        values: Shape (trials,).
        categorical: Shape (knobs,): whose numbers mean nothing but alike or not.
        start: `parameters` of another model of the same knobs, to start the fit from.

    Attributes:
        parameters: Logarithms of the fitted inverse squared lengths, amplitudes and noise; shape (2 knobs + 2,).
    """

    def __init__(self, rows: Array, values: Array, categorical: Any, start: Array | None = None) -> None:
        self._categorical = categorical
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        self._rows, self._values = rows, (values - self._mean) / self._scale
        knobs = rows.shape[1]
        prior = np.concatenate([np.zeros(knobs), np.full(knobs + 1, math.log(_AMPLITUDE)), [math.log(0.01)]])
        bounds = [_BOUNDS["length"]] * knobs + [_BOUNDS["amplitude"]] * (knobs + 1) + [_BOUNDS["noise"]]
        fit = minimize(
            self._loss, prior if start is None else start, (self._differences(rows, rows), prior), jac=True,
            method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-2},
        )  # fmt: skip
        self.parameters: Array = fit.x
        self._solve()

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Expected values at these rows, and standard deviations without the noise of a measurement; shape (rows,)."""
        covariance = self._kernel(self._differences(rows, self._rows))
        mean = covariance @ cho_solve(self._factor, self._values)
        explained = np.einsum("ij,ij->i", covariance, cho_solve(self._factor, covariance.T).T)
        variance = np.maximum(self._scales()[1].sum() - explained, 1e-12)
        return mean * self._scale + self._mean, np.sqrt(variance) * self._scale

    def sample(self, rows: Array, n: int, rng: np.random.Generator) -> Array:
        """Joint draws of the values at these rows, without the noise of a measurement; shape (n, rows)."""
        covariance = self._kernel(self._differences(rows, self._rows))
        mean = covariance @ cho_solve(self._factor, self._values)
        remaining = self._kernel(self._differences(rows, rows)) - covariance @ cho_solve(self._factor, covariance.T)
        drawn: Array = rng.multivariate_normal(mean, remaining, size=n, method="eigh", check_valid="ignore")
        return drawn * self._scale + self._mean

    @property
    def noise(self) -> float:
        """Standard deviation of the noise of a measurement."""
        return math.sqrt(self._noise()) * self._scale

    def fantasize(self, rows: Array) -> None:
        """Add the expected values at these rows, of trials under way, as if they were measured.

        Ginsbourger, Le Riche and Carraro 2010, "Kriging is well-suited to parallelize optimization", section 3.2.
        """
        expected = (self.predict(rows)[0] - self._mean) / self._scale
        self._rows, self._values = np.vstack([self._rows, rows]), np.concatenate([self._values, expected])
        self._solve()

    def _solve(self) -> None:
        covariance = self._kernel(self._differences(self._rows, self._rows))
        self._factor = cho_factor(covariance + self._noise() * np.eye(len(self._rows)), lower=True)

    def _differences(self, left: Array, right: Array) -> Array:
        """Squared differences, shape (knobs, left, right)."""
        squared: Array = (left.T[:, :, None] - right.T[:, None, :]) ** 2
        squared[self._categorical] = squared[self._categorical] > 0
        return squared

    def _scales(self, parameters: Array | None = None) -> tuple[Array, Array]:
        """Inverse squared lengths of the knobs; amplitudes of the knobs, and of all together."""
        scales = np.exp(self.parameters if parameters is None else parameters)
        knobs = self._rows.shape[1]
        return scales[:knobs], scales[knobs:-1]

    def _noise(self) -> float:
        return float(np.exp(self.parameters[-1])) + _LEAST_NOISE

    def _kernel(self, differences: Array) -> Array:
        lengths, amplitudes = self._scales()
        scaled = lengths[:, None, None] * differences
        each: Array = np.einsum("k,kij->ij", amplitudes[:-1], _exponential(scaled)[0])
        total: Array = each + amplitudes[-1] * _exponential(scaled.sum(0))[0]
        return total

    def _loss(self, parameters: Array, differences: Array, prior: Array) -> tuple[float, Array]:
        """Negative logarithm of the posterior density, and its gradient."""
        lengths, amplitudes = self._scales(parameters)
        noise = math.exp(parameters[-1])
        scaled = lengths[:, None, None] * differences
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
        # Priors: lengths of the order of the range, amplitudes within a factor of three of the expected, little noise.
        knobs = len(lengths)
        loss += 0.1 * (1 / lengths + lengths).sum() - 0.1 * parameters[-1] + 30 * noise
        gradient[:knobs] += 0.1 * (lengths - 1 / lengths)
        gradient[-1] += 30 * noise - 0.1
        excess = parameters[knobs:-1] - prior[knobs:-1]
        gradient[knobs:-1] += excess
        return float(loss + 0.5 * excess @ excess), gradient


def _exponential(squared: Array) -> tuple[Array, Array]:
    """The kernel at squared distances, and its derivative with respect to them."""
    root = np.sqrt(squared + _TINY)
    values = np.exp(-root)
    return values, -0.5 * values / root
