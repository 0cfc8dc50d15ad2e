"""Effects of knobs on one figure, alone and in pairs, with intervals, from trials scattered over a search space. Pure.

The effect of a change of one knob is the mean, over the trials, of the difference that the change makes beside the
other settings of each trial. What a pair adds is the difference that both changes make together, less those that each
makes alone, averaged in the same way. A mean over all of the space was tried instead: most trials of a search lie where
it is worth to be, so that the rest of the space is guessed at, and half of the effects of 20 % were not shown.

The figure is a Gaussian process whose kernel is the product of one plus a kernel of each knob that averages to zero
over the knob's values: multiplied out, it holds every knob alone, every pair, and so on (Durrande, Ginsbourger,
Roustant and Carraro 2013, "ANOVA kernels and RKHS of zero mean functions for model-based sensitivity analysis"). The
sizes of the parts and the noise are unknown; they are drawn from their posterior by Hamiltonian Monte Carlo (Neal 2011,
"MCMC using Hamiltonian dynamics", section 5.3), and an interval covers all of the draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from scipy.special import ndtri

from optimize.search.designs import spread
from optimize.search.encoding import Array, Encoding, Space
from optimize.search.posterior import Posterior, covariances

Point = Mapping[str, Any]
_NODES, _LENGTH = 16, 1.0
"""Values that stand for a range; the distance, as a share of it, over which what a knob does changes."""
_QUANTILES, _SEED = 21, 0
_MODELLED = 96
"""Most trials that are modelled: with more it takes minutes, and the intervals are narrow already."""
_WIDENED = 1.15
"""How much wider intervals are than the model says, which knows no kinks; settled on replays of the live table."""


@dataclass(frozen=True)
class Change:
    """Settings of one or two knobs in the place of others.

    Attributes:
        new: Knob -> value.
        old: Knob -> the value that it takes the place of.
    """

    new: Point
    old: Point


@dataclass(frozen=True)
class Size:
    """How large an effect is, on the scale of the figure that was modelled (a difference of logarithms, say).

    Attributes:
        value: Median of what the trials leave possible.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Effects:
    """The effects on one figure.

    Args:
        space: Knob -> distribution, of knobs with more than one value.
        points: Settings of each trial.
        values: The figure of each trial, shape (trials,), on the scale on which effects add up.
        saturation: Knob -> a value beyond which more of it changes little.
    """

    def __init__(self, space: Space, points: Sequence[Point], values: Array, saturation: Mapping[str, float]) -> None:
        if len(points) > _MODELLED:
            sample = np.random.default_rng(_SEED).choice(len(points), _MODELLED, replace=False)
            points, values = [points[i] for i in sample], values[sample]
        self._knobs = {name: _Knob(name, d, saturation) for name, d in space.items()}
        self._points, self._scale = points, float(values.std()) or 1.0
        y = (values - values.mean()) / self._scale
        self._parts = self._kernels(points, points)
        self._posterior = Posterior(self._parts, y)
        self._precision = self._posterior.precisions()
        self._weights = np.einsum("dij,j->di", self._precision, y)

    def of(self, change: Change) -> Size:
        """The effect of a change of one knob, or what a change of two adds to those of each."""
        theta, parts = self._posterior.theta, self._parts
        others = np.ones((len(theta), *parts.shape[1:])) * self._posterior.amplitude[:, None, None]
        shift, own = np.ones(others.shape[:2]), np.ones(len(theta))
        for place, (name, knob) in enumerate(self._knobs.items()):
            if name in change.new:
                along, variance = knob.contrast([p[name] for p in self._points], change.new[name], change.old[name])
                shift, own = shift * theta[:, place, None] * along, own * theta[:, place] * variance
            else:
                others *= 1 + theta[:, place, None, None] * parts[place]
        return self._size(others.mean(1) * shift, others.mean((1, 2)) * own)

    def between(self, new: Point, old: Point) -> Size:
        """The difference between two points, all of their settings together."""
        far = covariances(self._kernels([new, old], self._points), self._posterior)
        near = covariances(self._kernels([new, old], [new, old]), self._posterior)
        return self._size(far[:, 0] - far[:, 1], near[:, 0, 0] + near[:, 1, 1] - 2 * near[:, 0, 1])

    def _kernels(self, left: Sequence[Point], right: Sequence[Point]) -> Array:
        """Kernel of each knob between points, shape (knobs, left, right)."""
        return np.array([k.kernel([p[n] for p in left], [p[n] for p in right]) for n, k in self._knobs.items()])

    def _size(self, covariance: Array, variance: Array) -> Size:
        """Of a difference, by its covariance with the trials, shape (draws, trials), and its prior variance."""
        mean = np.einsum("di,di->d", covariance, self._weights)
        explained = np.einsum("di,dij,dj->d", covariance, self._precision, covariance)
        spread_of_each = np.sqrt(np.maximum(variance - explained, 0.0))
        steps = ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES)
        possible = (mean[:, None] + spread_of_each[:, None] * steps).ravel() * self._scale
        low, middle, high = map(float, np.quantile(possible, [0.025, 0.5, 0.975]))
        return Size(middle, middle + _WIDENED * (low - middle), middle + _WIDENED * (high - middle))


class _Knob:
    """The kernel of one knob that averages to zero over its values, and is one on average where a value meets itself.

    Args:
        name: Its name.
        distribution: Its values.
        saturation: As for `Effects`.
    """

    def __init__(self, name: str, distribution: BaseDistribution, saturation: Mapping[str, float]) -> None:
        self._name, self._encoding = name, Encoding({name: distribution}, saturation)
        self._nodes = self._positions(spread(distribution, _NODES))
        self._mean = float(self._plain(self._nodes, self._nodes).mean())
        self._unit = 1.0
        self._unit = float(np.diag(self._centred(self._nodes, self._nodes)).mean())

    def kernel(self, left: Sequence[Any], right: Sequence[Any]) -> Array:
        """Between values, shape (left, right)."""
        return self._centred(self._positions(left), self._positions(right))

    def contrast(self, values: Sequence[Any], new: Any, old: Any) -> tuple[Array, float]:
        """Of what `new` makes different from `old`: its covariance with each value, and its variance."""
        along, own = self.kernel([new, old], values), self.kernel([new, old], [new, old])
        return along[0] - along[1], float(own[0, 0] + own[1, 1] - 2 * own[0, 1])

    def _positions(self, values: Sequence[Any]) -> Array:
        column: Array = self._encoding.rows([{self._name: v} for v in values])[:, 0]
        return column

    def _plain(self, left: Array, right: Array) -> Array:
        distance = np.abs(left[:, None] - right[None])
        alike: Array = (distance == 0).astype(float) if self._encoding.categorical[0] else np.exp(-distance / _LENGTH)
        return alike

    def _centred(self, left: Array, right: Array) -> Array:
        one, other = (self._plain(side, self._nodes).mean(1) for side in (left, right))
        centred: Array = (self._plain(left, right) - np.outer(one, other) / self._mean) / self._unit
        return centred
