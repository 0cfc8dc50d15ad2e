"""A Gaussian process of one figure over the search space that learns from few trials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from optimize.search.encoding import Array

_ALONE, _TOGETHER, _SPREAD = 1.0, 2.0, 1.0
"""Expected variance of what the knobs do alone, divided among them, because of many knobs few do much; of what a pair
does together, as a share of the product of its knobs' variances; and the standard deviation of the logarithm of each.
With those of the noise, they predict best what models had not seen: the live table, HPOBench's vLLM, and other made-up
spaces than those of the comparison (decision 069)."""
_NOISE, _NOISE_SPREAD = 0.1, 1.0
"""Expected share of the noise in the variance, and the standard deviation of its logarithm."""
_LEAST_NOISE = 1e-4
_BOUNDS = {"length": (-5.0, 5.0), "amplitude": (-9.0, 3.0), "noise": (-9.0, 0.0)}
_JITTER = 1e-10


class GaussianProcess:
    """A Gaussian process that is a sum: a function of each knob alone, of each pair, and so on.

    Most of a knob's effect on an engine is the same whatever the other knobs are, and a handful of trials shows it. The
    kernel is the product of one plus a kernel of each knob, less one (Durrande, Ginsbourger, Roustant and Carraro 2013,
    "ANOVA kernels and RKHS of zero mean functions for model-based sensitivity analysis"): knobs without an effect alone
    have none together with others, so that of many knobs those without effect leave nothing to be found out. Kernels
    are exponential (Rasmussen and Williams 2006, equation 4.18): the figures of an engine have kinks, where a batch no
    longer fills or a cache overflows, so no smoothness is assumed. Choices without an order are alike or not. Lengths,
    amplitudes and noise are the most probable ones under weak priors.

    Args:
        rows: Shape (trials, knobs), each knob from 0 to 1.
        values: Shape (trials,).
        categorical: Shape (knobs,): whose numbers mean nothing but alike or not.
        start: `parameters` of another model of the same knobs, to start the fit from.

    Attributes:
        parameters: Logarithms of the fitted inverse squared lengths and amplitudes of the knobs, of what they do
            together as a share of the product of their amplitudes, and of the noise; shape (2 knobs + 2,).
    """

    def __init__(self, rows: Array, values: Array, categorical: Any, start: Array | None = None) -> None:
        self._categorical = categorical
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        self._rows, self._values = rows, (values - self._mean) / self._scale
        knobs = rows.shape[1]
        prior = np.log([*np.ones(knobs), *np.full(knobs, _ALONE / max(knobs, 1)), _TOGETHER, _NOISE])
        bounds = [_BOUNDS["length"]] * knobs + [_BOUNDS["amplitude"]] * (knobs + 1) + [_BOUNDS["noise"]]
        fit = minimize(
            self._loss, prior if start is None else start, (self._differences(rows, rows), prior), jac=True,
            method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-2},
        )  # fmt: skip
        self.parameters: Array = fit.x
        self._solve()

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Expected values at these rows, and standard deviations without the noise of a measurement; shape (rows,)."""
        covariance = self._covariance(rows, self._rows)
        mean = covariance @ cho_solve(self._factor, self._values)
        explained = np.einsum("ij,ij->i", covariance, cho_solve(self._factor, covariance.T).T)
        _, amplitudes, pairs = self._scales()
        variance = np.maximum((np.prod(1 + pairs * amplitudes) - 1) / pairs - explained, 1e-12)
        return mean * self._scale + self._mean, np.sqrt(variance) * self._scale

    def sample(self, rows: Array, n: int, rng: np.random.Generator) -> Array:
        """Joint draws of the values at these rows, without the noise of a measurement; shape (n, rows)."""
        covariance = self._covariance(rows, self._rows)
        mean = covariance @ cho_solve(self._factor, self._values)
        remaining = self._covariance(rows, rows) - covariance @ cho_solve(self._factor, covariance.T)
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
        covariance = self._covariance(self._rows, self._rows)
        noise = self._noise() + _JITTER * covariance[0, 0]
        self._factor = cho_factor(covariance + noise * np.eye(len(self._rows)), lower=True)

    def _differences(self, left: Array, right: Array) -> Array:
        """Absolute differences, shape (knobs, left, right)."""
        absolute: Array = np.abs(left.T[:, :, None] - right.T[:, None, :])
        absolute[self._categorical] = absolute[self._categorical] > 0
        return absolute

    def _scales(self, parameters: Array | None = None) -> tuple[Array, Array, float]:
        """Inverse squared lengths and amplitudes of the knobs, and what pairs of them do together."""
        scales = np.exp(self.parameters if parameters is None else parameters)
        knobs = self._rows.shape[1]
        return scales[:knobs], scales[knobs:-2], float(scales[-2])

    def _noise(self) -> float:
        return float(np.exp(self.parameters[-1])) + _LEAST_NOISE

    def _covariance(self, left: Array, right: Array) -> Array:
        """Shape (left, right); each value of a knob is looked at once, for many candidates share it."""
        lengths, amplitudes, pairs = self._scales()
        product = np.ones((len(left), len(right)))
        for knob, (length, amplitude) in enumerate(zip(lengths, amplitudes, strict=True)):
            values, place = np.unique(left[:, knob], return_inverse=True)
            differences = np.abs(values[:, None] - right[:, knob])
            scaled = math.sqrt(length) * ((differences > 0) if self._categorical[knob] else differences)
            product *= (1 + pairs * amplitude * np.exp(-scaled))[place]
        return np.asarray((product - 1) / pairs)

    def _loss(self, parameters: Array, differences: Array, prior: Array) -> tuple[float, Array]:
        """Negative logarithm of the posterior density, and its gradient."""
        lengths, amplitudes, pairs = self._scales(parameters)
        noise, knobs = math.exp(parameters[-1]), len(lengths)
        scaled = np.sqrt(lengths)[:, None, None] * differences
        each = amplitudes[:, None, None] * np.exp(-scaled)
        factors = 1 + pairs * each
        product = factors.prod(0)
        signal = (product - 1) / pairs
        covariance = signal + (noise + _LEAST_NOISE + _JITTER * signal[0, 0]) * np.eye(len(signal))
        factor = cho_factor(covariance, lower=True)
        weights = cho_solve(factor, self._values)
        loss = np.log(np.diag(factor[0])).sum() + 0.5 * self._values @ weights
        outer = 0.5 * (cho_solve(factor, np.eye(len(covariance))) - np.outer(weights, weights))
        slopes = product / factors * each * outer
        shares = slopes.sum((1, 2))
        rest = [shares.sum() - np.sum(outer * signal), noise * np.trace(outer)]
        gradient = np.concatenate([-0.5 * (slopes * scaled).sum((1, 2)), shares, rest])
        # Priors: lengths of the order of the range; amplitudes and noise within a factor of a few of the expected.
        loss += 0.1 * (1 / lengths + lengths).sum()
        gradient[:knobs] += 0.1 * (lengths - 1 / lengths)
        spread = np.array([*[_SPREAD] * (knobs + 1), _NOISE_SPREAD])
        excess = (parameters[knobs:] - prior[knobs:]) / spread
        gradient[knobs:] += excess / spread
        return float(loss + 0.5 * excess @ excess), gradient
