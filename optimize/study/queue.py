"""The queue of a study's trials: points that the next asks get, before the sampler is asked for any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from optimize.outcome import ROLE
from optimize.study.trial_attributes import CONFIRMATION_ATTRS
from optimize.study.trials import trial_of

RETRIES = "retries"
"""User attribute of a trial: how many earlier trials of its point failed for a transient reason."""


def enqueue(study: optuna.Study, params: Mapping[str, Any], **attributes: Any) -> None:
    """Queue one point; its trial will have these user attributes."""
    study.enqueue_trial(dict(params), user_attrs={RETRIES: 0, **attributes})


def requeue(study: optuna.Study, trial: optuna.Trial | FrozenTrial, retries: int = 0) -> None:
    """Queue the point of a trial that ended without a result.

    Args:
        study: The study of the trial.
        trial: The trial that ended.
        retries: Retries to count in addition to those of the trial.
    """
    attributes = {k: v for k, v in trial.user_attrs.items() if k in (ROLE, *CONFIRMATION_ATTRS)}
    previous = int(trial.user_attrs.get(RETRIES, 0))
    study.enqueue_trial(params_of(trial), user_attrs={**attributes, RETRIES: previous + retries})


def params_of(trial: optuna.Trial | FrozenTrial) -> dict[str, Any]:
    """The settings of a trial; of a queued point all that were queued, even if a kill came before they were taken."""
    if isinstance(trial, FrozenTrial):
        return dict(trial.system_attrs.get("fixed_params", trial.params))
    return dict(trial.params)


def drop_queue(study: optuna.Study, kept_role: str) -> None:
    """End all queued trials but those of one role."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if all(t.user_attrs.get(ROLE) == kept_role for t in waiting):
        return
    for _ in waiting:  # each ask takes the one that was queued first
        trial = study.ask()
        tell_failed(study, trial)
        if trial.user_attrs.get(ROLE) == kept_role:
            requeue(study, trial_of(study, trial.number))


def is_queued(study: optuna.Study, role: str) -> bool:
    """Whether a trial of this role is queued."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return any(t.user_attrs.get(ROLE) == role for t in waiting)


def tell_failed(study: optuna.Study, trial: optuna.Trial) -> None:
    """End a trial that says nothing about its configuration; it uses up no budget."""
    study.tell(trial, state=TrialState.FAIL)
