"""The posterior of the sizes of a Gaussian process's parts and of its noise, by Hamiltonian Monte Carlo. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from optimize.search.encoding import Array

_SIZE, _PAIRS, _NOISE = (math.log(0.5), 1.0), (math.log(0.5), 0.7), (math.log(0.1), 0.7)
"""Mean and standard deviation of logarithms before any trial: the effect of a knob, what two knobs do together as a
share of the product of their effects, and the noise, the first and the last in standard deviations of the figure."""
_MEAN_VARIANCE = 4.0
_CHAINS, _BURN_IN, _KEPT, _THINNING, _LEAPS = 4, 40, 30, 2, 6
_FIRST_STEP, _STEPS, _FASTER, _SLOWER = 0.15, (0.02, 0.6), 1.06, 0.85
_WIDEST = 4.0
"""Standard deviations of the prior beyond which a covariance is singular to the machine."""
_LEAST_NOISE, _JITTER, _SEED = 1e-3, 1e-9, 0


class _State(NamedTuple):
    """Where each chain is: logarithms of the sizes, shape (chains, knobs + 2), their density and its gradient."""

    at: Array
    density: Array
    slope: Array


class Posterior:
    """Draws of the sizes.

    Args:
        parts: Kernel of each knob among the trials, shape (knobs, trials, trials).
        y: Figures of the trials, shape (trials,), of mean 0 and variance 1.

    Attributes:
        theta: Weight of each knob's kernel in the product, shape (draws, knobs).
        amplitude: Weight of the product, shape (draws,).
        noise: Variance of the noise, shape (draws,).
    """

    def __init__(self, parts: Array, y: Array) -> None:
        self._parts, self._y = parts, y
        prior: Array = np.array([*[_SIZE] * len(parts), _PAIRS, _NOISE])
        self._centre: Array = prior[:, 0]
        self._width: Array = prior[:, 1]
        self.theta, self.amplitude, self.noise = _weights(self._draws(np.random.default_rng(_SEED)))

    def precisions(self) -> Array:
        """Inverse of the trials' covariance in each draw, shape (draws, trials, trials)."""
        covariance = covariances(self._parts, self) + _diagonal(self.noise, len(self._y))
        return np.asarray(np.linalg.inv(covariance), dtype=float)

    def _draws(self, rng: np.random.Generator) -> Array:
        """Logarithms of the sizes, shape (draws, knobs + 2)."""
        start = self._centre + 0.5 * self._width * rng.standard_normal((_CHAINS, len(self._centre)))
        state, step, draws = self._state(start), np.full(_CHAINS, _FIRST_STEP), []
        for turn in range(_BURN_IN + _KEPT * _THINNING):
            new, accepted = self._moved(state, step, rng)
            state = _State(*(_where(accepted, *pair) for pair in zip(new, state, strict=True)))
            if turn < _BURN_IN:
                step = np.clip(step * np.where(accepted, _FASTER, _SLOWER), *_STEPS)
            elif turn % _THINNING:
                draws.append(self._bounded(state.at))
        return np.concatenate(draws)

    def _moved(self, state: _State, step: Array, rng: np.random.Generator) -> tuple[_State, Array]:
        """Where a path through the density leads, and whether each chain takes it."""
        scale = step[:, None] * self._width
        momentum = np.array(rng.standard_normal(size=state.at.shape), dtype=float)
        energy, new = state.density - 0.5 * (momentum**2).sum(1), state
        for _ in range(_LEAPS):
            momentum = momentum + 0.5 * scale * new.slope
            new = self._state(new.at + scale * momentum)
            momentum = momentum + 0.5 * scale * new.slope
        gain = new.density - 0.5 * (momentum**2).sum(1) - energy
        return new, np.log(rng.random(_CHAINS)) < gain

    def _bounded(self, at: Array) -> Array:
        return np.clip(at, self._centre - _WIDEST * self._width, self._centre + _WIDEST * self._width)

    def _state(self, at: Array) -> _State:
        gap = (at - self._centre) / self._width
        theta, amplitude, noise = _weights(self._bounded(at))
        factors = 1 + theta[:, :, None, None] * self._parts
        product = amplitude[:, None, None] * factors.prod(1)
        lower = np.linalg.cholesky(product + _MEAN_VARIANCE + _diagonal(noise, len(self._y), product))
        inverse = np.linalg.inv(lower)
        precision = np.swapaxes(inverse, 1, 2) @ inverse
        weights = precision @ self._y
        density = -np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1) - 0.5 * weights @ self._y
        outer = 0.5 * (weights[:, :, None] * weights[:, None, :] - precision)
        sizes = 2 * amplitude[:, None] * theta * np.einsum("dij,dkij,kij->dk", outer, _others(factors), self._parts)
        pairs = sizes.sum(1) - 2 * np.einsum("dij,dij->d", outer, product)
        slope = np.column_stack([sizes, pairs, 2 * noise * np.einsum("dii->d", outer)]) - gap / self._width
        return _State(at, density - 0.5 * (gap**2).sum(1), slope)


def covariances(parts: Array, posterior: Posterior) -> Array:
    """Covariance of what is modelled in each draw, shape (draws, left, right).

    Args:
        parts: Kernel of each knob, shape (knobs, left, right).
        posterior: The draws.
    """
    product = np.ones((len(posterior.theta), *parts.shape[1:])) * posterior.amplitude[:, None, None]
    for place, part in enumerate(parts):
        product *= 1 + posterior.theta[:, place, None, None] * part
    return product + _MEAN_VARIANCE


def _weights(at: Array) -> tuple[Array, Array, Array]:
    """`theta`, `amplitude` and `noise` of `Posterior`: a knob alone has the variance of its size squared."""
    sizes, pairs, noise = np.exp(2 * at[:, :-2]), np.exp(2 * at[:, -2]), np.exp(2 * at[:, -1])
    return sizes * pairs[:, None], 1 / pairs, noise


def _diagonal(noise: Array, trials: int, product: Array | None = None) -> Array:
    """What the noise adds to covariances, shape (draws, trials, trials), and what keeps them regular."""
    jitter = 0.0 if product is None else _JITTER * np.einsum("dii->d", product)
    diagonal: Array = (noise + _LEAST_NOISE + jitter)[:, None, None] * np.eye(trials)
    return diagonal


def _others(factors: Array) -> Array:
    """For each knob the product of all other knobs' factors, without a division by what may be zero."""
    one = np.ones_like(factors[:, :1])
    before = np.cumprod(np.concatenate([one, factors[:, :-1]], axis=1), axis=1)
    after = np.cumprod(np.concatenate([one, factors[:, :0:-1]], axis=1), axis=1)[:, ::-1]
    others: Array = before * after
    return others


def _where(accepted: Array, new: Array, old: Array) -> Array:
    """New values of the chains that move, old ones of the others."""
    return np.where(accepted if new.ndim == 1 else accepted[:, None], new, old)
