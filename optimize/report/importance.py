"""Importance of the knobs for each objective, alone and in pairs, estimated from a study's trials.

A random forest is fitted to the trials, and the variance of its prediction over a grid of the space is split into what
each knob explains alone and what each pair explains beyond that: functional analysis of variance (Hutter, Hoos and
Leyton-Brown, "An efficient approach for assessing hyperparameter importance", 2014). Intervals: bootstrap over trials.
A share is evident if its interval lies above the shares that forests find in shuffled figures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimize.formatting import percentage
from optimize.search.encoding import Array, Coding, Levels

LEAST_TRIALS = 12
_TREES, _BOOTSTRAPS, _SHUFFLES = 24, 40, 20
_SEED = 0


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a figure's variance that a knob explains alone, or a pair of knobs beyond the two.

    Attributes:
        figure: Objective.
        knobs: One or two.
        value: Share of the variance over the space, 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        chance: 95 % quantile of the share in shuffled figures.
    """

    figure: str
    knobs: tuple[str, ...]
    value: float
    low: float
    high: float
    chance: float

    @property
    def evident(self) -> bool:
        return self.low > self.chance

    @property
    def text(self) -> str:
        """The share with its interval, e.g. "61 % (55–67 %)"."""
        return percentage(self.value, self.low, self.high)

    def in_words(self) -> str:
        """One sentence that the data supports."""
        share = f"{self.text} of its variance"
        if len(self.knobs) == 1:
            (knob,) = self.knobs
            if self.evident:
                return f"{knob} matters for {self.figure}: alone it explains {share}."
            return f"Not enough evidence that {knob} alone matters for {self.figure}: {share}."
        one, other = self.knobs
        if self.evident:
            return f"{one} and {other} interact on {self.figure}: together they explain {share} beyond each alone."
        return f"Not enough evidence that {one} and {other} interact on {self.figure}: {share}."


def shares(
    params: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Sequence[float]],
    levels: Levels,
    logs: Mapping[str, bool],
) -> list[Share]:
    """Shares of all knobs and pairs for every figure; none with too few trials, or far too many choices.

    Args:
        params: Knob -> value of each trial.
        figures: Name -> value in each trial.
        levels: Knob -> the values that represent its range.
        logs: Name -> whether the figure is analysed in logarithms.
    """
    knobs = [knob for knob, values in levels.items() if len(values) > 1]
    if len(params) < LEAST_TRIALS or not knobs:
        return []
    coding = Coding({knob: levels[knob] for knob in knobs})
    if coding.shape is None:
        return []
    axes = range(len(knobs))
    forests = _Forests(
        coding, coding.rows(params), [(axis,) for axis in axes] + list(itertools.combinations(axes, 2)),
        np.random.default_rng(_SEED),
    )  # fmt: skip
    names = [tuple(knobs[axis] for axis in effect) for effect in forests.effects]
    results: list[Share] = []
    for name, values in figures.items():
        y = np.array([math.log(max(v, 1e-12)) if logs[name] else v for v in values])
        if np.ptp(y) > 0:
            bounds = forests.shares(y)
            results += [Share(name, knobs, *map(float, row)) for knobs, row in zip(names, bounds.T, strict=True)]
    return results


@dataclass(frozen=True)
class _Forests:
    """Random forests on one set of trials.

    Attributes:
        coding: The grid that predictions are averaged over.
        trials: Shape (trials, knobs).
        effects: Axes of the grid: each knob, then each pair.
        rng: Seeds the forests, the bootstrap and the shuffles.
    """

    coding: Coding
    trials: Array
    effects: Sequence[tuple[int, ...]]
    rng: np.random.Generator

    def shares(self, y: Array) -> Array:
        """Rows value, low, high and chance, a column per effect, of one figure of shape (trials,)."""
        value, bootstrap, shuffled = self._explained(self.trials, y), [], []
        for _ in range(_BOOTSTRAPS):
            drawn = self.rng.integers(len(y), size=len(y))
            bootstrap.append(self._explained(self.trials[drawn], y[drawn]))
        for _ in range(_SHUFFLES):
            shuffled.append(self._explained(self.trials, self.rng.permutation(y)))
        low, high = np.quantile([value, *bootstrap], [0.025, 0.975], axis=0)
        chance = np.quantile(shuffled, 0.95, axis=0)
        return np.array([value, np.minimum(low, value), np.maximum(high, value), chance])

    def _explained(self, trials: Array, y: Array) -> Array:
        """Share of each effect, shape (effects,), in one forest."""
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(_TREES, random_state=int(self.rng.integers(2**31))).fit(trials, y)
        predicted = forest.predict(self.coding.grid).reshape(self.coding.shape)
        if predicted.var() == 0:
            return np.zeros(len(self.effects))
        variances: dict[tuple[int, ...], float] = {}
        for effect in self.effects:
            others = tuple(axis for axis in range(predicted.ndim) if axis not in effect)
            alone = sum(variances[(axis,)] for axis in effect if len(effect) > 1)
            variances[effect] = float(predicted.mean(axis=others).var()) - alone
        return np.array([max(0.0, variances[effect]) / predicted.var() for effect in self.effects])
