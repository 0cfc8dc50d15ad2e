"""Which knobs matter for which figure, alone and in pairs, as far as a study's trials can tell.

A random forest is fitted to the trials, and the variance of its prediction over a grid of the space is split into what
each knob explains alone and what each pair explains beyond that: functional analysis of variance (Hutter, Hoos and
Leyton-Brown, "An efficient approach for assessing hyperparameter importance", 2014). Intervals: bootstrap over trials.
A share counts as evidence where its interval lies above what forests find in shuffled figures, in which nothing is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimize.search.encoding import Array, Coding, Levels

LEAST_TRIALS = 12
_TREES, _BOOTSTRAPS, _SHUFFLES = 24, 40, 20
_SEED = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What a knob, or a pair beyond its two knobs, explains of a figure.

    Attributes:
        figure: Objective.
        knobs: One or two.
        value: Share of the variance over the space, 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        chance: What shuffled figures reach in 19 of 20 cases.
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

    def in_words(self) -> str:
        """One sentence that the data supports."""
        interval = f"[{self.low:.0%}, {self.high:.0%}] of its variance"
        if len(self.knobs) == 1:
            (knob,) = self.knobs
            if self.evident:
                return f"{knob} matters for {self.figure}: alone it explains {self.value:.0%} {interval}."
            return f"Not enough evidence that {knob} alone matters for {self.figure}: {self.value:.0%} {interval}."
        one, other = self.knobs
        if self.evident:
            return (
                f"{one} and {other} interact on {self.figure}: together they explain {self.value:.0%} {interval} "
                "beyond what each explains alone."
            )
        return f"Not enough evidence that {one} and {other} interact on {self.figure}: {self.value:.0%} {interval}."


def shares(
    params: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Sequence[float]],
    levels: Levels,
    logs: Mapping[str, bool],
) -> list[Share]:
    """Shares of all knobs and pairs for every figure; nothing where there are too few trials, or far too many choices.

    Args:
        params: Knob -> value of each trial.
        figures: Name -> value in each trial.
        levels: Knob -> the values that stand for its range.
        logs: Name -> whether the logarithm of the figure is what matters.
    """
    knobs = [knob for knob, values in levels.items() if len(values) > 1]
    if len(params) < LEAST_TRIALS or not knobs:
        return []
    coded = Coding({knob: levels[knob] for knob in knobs})
    if coded.shape is None:
        return []
    rng = np.random.default_rng(_SEED)
    tried = coded.rows(params)
    effects = [(axis,) for axis in range(len(knobs))] + list(itertools.combinations(range(len(knobs)), 2))
    found: list[Share] = []
    for name, values in figures.items():
        y = np.array([math.log(max(v, 1e-12)) if logs[name] else v for v in values])
        if np.ptp(y) > 0:
            named = [tuple(knobs[axis] for axis in effect) for effect in effects]
            found += _shares_of(name, named, coded, tried, y, effects, rng)
    return found


def _shares_of(
    name: str, named: Sequence[tuple[str, ...]], coded: Coding, tried: Array, y: Array,
    effects: Sequence[tuple[int, ...]], rng: np.random.Generator,
) -> list[Share]:  # fmt: skip
    found, again, shuffled = _explained(coded, tried, y, effects, rng), [], []
    for _ in range(_BOOTSTRAPS):
        drawn = rng.integers(len(y), size=len(y))
        again.append(_explained(coded, tried[drawn], y[drawn], effects, rng))
    for _ in range(_SHUFFLES):
        shuffled.append(_explained(coded, tried, rng.permutation(y), effects, rng))
    low, high = np.quantile([found, *again], [0.025, 0.975], axis=0)
    chance = np.quantile(shuffled, 0.95, axis=0)
    return [
        Share(name, knobs, float(v), float(min(a, v)), float(max(b, v)), float(c))
        for knobs, v, a, b, c in zip(named, found, low, high, chance, strict=True)
    ]


def _explained(
    coded: Coding, tried: Array, y: Array, effects: Sequence[tuple[int, ...]], rng: np.random.Generator
) -> Array:
    """Share of each effect (axes of the grid), shape (effects,), in one forest."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, random_state=int(rng.integers(2**31))).fit(tried, y)
    predicted = forest.predict(coded.grid).reshape(coded.shape)
    if predicted.var() == 0:
        return np.zeros(len(effects))
    found: dict[tuple[int, ...], float] = {}
    for effect in effects:
        others = tuple(axis for axis in range(predicted.ndim) if axis not in effect)
        found[effect] = float(predicted.mean(axis=others).var()) - sum(found[(a,)] for a in effect if len(effect) > 1)
    return np.array([max(0.0, found[effect]) / predicted.var() for effect in effects])
