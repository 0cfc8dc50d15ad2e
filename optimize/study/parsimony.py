"""Parsimony: a recommended configuration keeps vLLM's default in every knob whose change is not shown to help.

The search tries values of all knobs together, and its best point sets knobs that do nothing to whatever they were drawn
as. So the search's last trial is its best point *reduced*: knob by knob, the change that is least shown to help, by the
trials so far, goes back to the baseline's value, until the score is shown to fall with each that is left. Both points
are then measured in the rounds of the confirmation, and the best point is recommended only if it is better there. The
other points of the front are reduced as well, and give way in the rounds to forms that the search has tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives import Direction
from optimize.decision.evidence import shares_of
from optimize.decision.recommendation import Candidate
from optimize.outcome import ROLE, Role
from optimize.search.effects import Effects
from optimize.study.info import info_of
from optimize.study.queue import enqueue
from optimize.study.trials import budget_trials, candidates, measured_trials, trial_of

if TYPE_CHECKING:
    import optuna

_REDUCED = "reduced"
"""User attribute of a study: a trial's number -> its settings, reduced."""
LEAST_TRIALS = 8
Params = dict[str, Any]


def queue_reduced(
    study: optuna.Study, front: Sequence[Candidate], canonical: Callable[[Mapping[str, Any]], Params]
) -> None:
    """Queue the reduced form of the search's best point, unless that was tried, or too few trials were measured.

    Args:
        study: The study.
        front: The best points so far, the best one first; the reduced forms of all are kept.
        canonical: Puts knobs that have no effect to one value.
    """
    stored, best = study.user_attrs.get(_REDUCED, {}), front[0]
    if best.baseline or str(best.number) in stored or len(measured_trials(study)) < LEAST_TRIALS:
        return
    reduction = _Reduction(study)
    points = {c.number: trial_of(study, c.number).params for c in front if not c.baseline}
    reduced = {str(number): canonical(reduction.of(point)) for number, point in points.items()}
    study.set_user_attr(_REDUCED, stored | reduced)
    if reduced[str(best.number)] not in [t.params for t in budget_trials(study)]:
        enqueue(study, reduced[str(best.number)], **{ROLE: Role.SEARCH})


def reduced_trials(study: optuna.Study) -> dict[int, int]:
    """Trial -> the one of its reduced form, if that was measured; itself where nothing could be left out."""
    measured = measured_trials(study)
    return {
        int(number): reduced
        for number, params in study.user_attrs.get(_REDUCED, {}).items()
        if (reduced := next((t.number for t in measured if t.params == params), None)) is not None
    }


class _Reduction:
    """What the trials of a search show of the changes from the baseline.

    Args:
        study: The study, its baseline measured.
    """

    def __init__(self, study: optuna.Study) -> None:
        info, measured = info_of(study), candidates(study)
        points = [trial_of(study, c.number).params for c in measured]
        self._default = next(p for c, p in zip(measured, points, strict=True) if c.baseline)
        self._saturation = info.saturation
        space = {n: d for n, d in budget_trials(study)[0].distributions.items() if not d.single()}
        shares = shares_of(info.scenario.weights, info.directions)
        self._models = [
            (
                share if info.directions[name] is Direction.MAXIMIZE else -share,
                Effects(space, points, values, info.saturation),
            )
            for name, share in shares.items()
            if (values := _logarithms(measured, name)) is not None
        ]

    def of(self, point: Params) -> Params:
        """A point with the baseline's value in every knob whose change is not shown to help."""
        point = {**point, **{k: v for k, v in self._default.items() if self._is_beyond(k, point[k], v)}}
        while self._models and (changed := [k for k, v in point.items() if v != self._default[k]]):
            shown = {knob: self._least_gain(point, self._without(point, knob)) for knob in changed}
            weakest = min(shown, key=shown.__getitem__)
            if shown[weakest] > 0:
                break
            point = self._without(point, weakest)
        return point

    def _without(self, point: Params, knob: str) -> Params:
        return {**point, knob: self._default[knob]}

    def _is_beyond(self, knob: str, value: Any, default: Any) -> bool:
        """Whether both values are beyond what makes a difference: more sequences at once than there ever are."""
        limit = self._saturation.get(knob, math.inf)
        return all(isinstance(v, int | float) and v >= limit for v in (value, default))

    def _least_gain(self, new: Params, old: Params) -> float:
        """Lower end of the interval of the score's logarithm at one point less that at another."""
        middle = spread = 0.0
        for share, effects in self._models:
            size = effects.between(new, old)
            middle += share * size.value
            spread += (share * (size.high - size.low) / 2) ** 2
        return middle - math.sqrt(spread)


def _logarithms(measured: Sequence[Candidate], name: str) -> np.ndarray | None:
    """Of one figure of all trials; None where that does not vary, or is not positive throughout."""
    values = [c.estimates[name].value if name in c.estimates else 0.0 for c in measured]
    return np.log(values) if min(values) > 0 and max(values) > min(values) else None
