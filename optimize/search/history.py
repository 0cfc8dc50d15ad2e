"""The trials of a study as a model-based search sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from optimize.pareto import non_dominated
from optimize.search.encoding import Array, Point, PointKey, Space, point_key

_MODELLED = 160
_TINY = 1e-9
_LEAST_VIOLATION = -0.99
"""A hundredth of a limit: nothing has a logarithm, and less makes no difference."""
_COMFORTABLE = -0.5
"""A violation so far below zero that more makes no difference to whether a constraint is kept."""


@dataclass(frozen=True)
class History:
    """Trials of a study, completed and under way.

    Attributes:
        space: Knob -> distribution, of all knobs that are searched.
        completed: Trials with a result, measured or not.
        running: Trials under way.
        disturbed: Trials without a result because other programs disturbed the machine.
    """

    space: Space
    completed: Sequence[FrozenTrial]
    running: Sequence[FrozenTrial]
    disturbed: Sequence[FrozenTrial] = ()

    @cached_property
    def tried(self) -> list[Point]:
        """The point of each trial."""
        return [within(self.space, t.params) for t in (*self.completed, *self.running, *self.disturbed)]

    @cached_property
    def tried_keys(self) -> set[PointKey]:
        """Keys of the points tried."""
        return {point_key(p) for p in self.tried}

    def subsample(self, directions: Sequence[StudyDirection], rng: np.random.RandomState) -> list[FrozenTrial]:
        """As many completed trials as a model can take within seconds, in order: the feasible front, the latest, and
        others drawn at random.
        """
        trials = self.completed
        if len(trials) <= _MODELLED:
            return list(trials)
        feasible = [i for i, t in enumerate(trials) if is_feasible(t)]
        signs = signs_of(directions)
        losses = np.array([signs * trials[i].values for i in feasible]).reshape(len(feasible), len(signs))
        best = [i for i, on_it in zip(feasible, non_dominated(losses), strict=True) if on_it][-_MODELLED // 2 :]
        selection = {*best, *range(len(trials) - _MODELLED // 4, len(trials))}
        others = [i for i in range(len(trials)) if i not in selection]
        selection |= {others[i] for i in rng.choice(len(others), size=_MODELLED - len(selection), replace=False)}
        return [trials[i] for i in sorted(selection)]


def signs_of(directions: Sequence[StudyDirection]) -> Array:
    """What turns each objective into a loss, shape (objectives,): -1 where it is maximized, else 1."""
    return np.array([-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in directions])


def is_measured(trial: FrozenTrial) -> bool:
    """Whether a completed trial's values are its own; those of a configuration that cannot run are imputed."""
    return not trial.user_attrs.get("imputed")


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps every constraint."""
    return all(v <= 0 for v in trial.constraints.values())


def ratios_to_limits(
    constraints: Sequence[Mapping[str, float]], measured: Sequence[bool]
) -> dict[str, tuple[list[int], Array]]:
    """Constraint that was ever broken -> the trials that tell how far it is kept, and their logarithms of the ratio to
    its limit.

    Args:
        constraints: Of each trial: constraint -> by which share of its limit it is broken.
        measured: Whether each trial gave figures; one without tells only what it broke.
    """
    ratios = {}
    for name in dict.fromkeys(name for each in constraints for name in each):
        trials = [i for i, each in enumerate(constraints) if name in each and (measured[i] or each[name] > 0)]
        values = np.array([log_ratio_to_limit(max(constraints[i][name], _COMFORTABLE)) for i in trials])
        if len(values) and values.max() > 0:
            ratios[name] = trials, values
    return ratios


def log_ratio_to_limit(violation: float) -> float:
    """Logarithm of a figure's ratio to its limit, for ratios are what knobs multiply: a violation of 1 is twice it."""
    return math.log1p(max(violation, _LEAST_VIOLATION))


def log_scaled(values: Sequence[float], log_scale: Sequence[bool]) -> list[float]:
    """The values of a trial, the marked ones replaced by their logarithms."""
    pairs = zip(values, log_scale, strict=True)
    return [math.log(max(value, _TINY)) if use_log else value for value, use_log in pairs]


def within(space: Mapping[str, Any], params: Mapping[str, Any]) -> Point:
    """The settings of the knobs that belong to a space."""
    return {name: value for name, value in params.items() if name in space}
