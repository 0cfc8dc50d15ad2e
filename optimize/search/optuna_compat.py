"""All that this project uses of Optuna's private names, in one place: a new version of Optuna is checked here.

`tests/optimize/search/test_optuna_compat.py` holds these against the pinned Optuna, and `tests/test_layers.py` keeps
private names of Optuna out of every other module.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna._hypervolume import compute_hypervolume
from optuna._hypervolume.box_decomposition import get_non_dominated_box_bounds
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optimize.search.encoding import Array


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage that a study reads and writes."""
    return study._storage


def database_of(study: optuna.Study) -> BaseStorage:
    """The storage that a study's cache keeps its trials in; the study's own where there is no cache."""
    database: BaseStorage = getattr(study._storage, "_backend", study._storage)
    return database


STORAGE_CALLS = (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "set_trial_user_attr", "set_trial_system_attr", "get_trial_id_from_study_id_trial_number",
    "get_trial", "_create_new_trial", "_set_trial_param", "_get_trials", "_get_stale_trial_ids",
)  # fmt: skip
"""Methods of Optuna's database storage that its cache calls; each is a transaction of its own."""


def study_id(study: optuna.Study) -> int:
    """The study's number in its storage."""
    return study._study_id


def record_heartbeat(study: optuna.Study, trial: optuna.Trial) -> None:
    """Write that the trial's driver is alive; its storage must keep heartbeats."""
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


def end_trial(study: optuna.Study, trial: FrozenTrial, state: TrialState) -> bool:
    """Put a trial into a state without the checks of `study.tell`; False where its state was the storage's already.

    Raises:
        UpdateFinishedTrialError: the trial has ended.
    """
    return bool(study._storage.set_trial_state_values(trial._trial_id, state=state))


def distribution_contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a trial may have this value."""
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A trial's value of one parameter, by its distribution."""
    return trial._suggest(name, distribution)


def box_bounds(front: Array, reference: Array) -> tuple[Array, Array]:
    """Lower and upper corners, shape (boxes, objectives), of boxes that make up what a front does not dominate.

    Args:
        front: Shape (n, objectives): points of which none dominates another, to be minimized.
        reference: Shape (objectives,): the corner that the boxes end at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that more than four objectives are slow
        lower, upper = get_non_dominated_box_bounds(front, reference)
    return lower, upper


def hypervolume(losses: Array, reference: Array) -> float:
    """Volume that points dominate, up to a reference.

    Args:
        losses: Shape (n, objectives), to be minimized.
        reference: Shape (objectives,).
    """
    return float(compute_hypervolume(losses, reference))
