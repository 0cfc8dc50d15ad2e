"""The study in Optuna's storage: opened, resumed, queued, and set aside."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optimize.config.instantiate import build
from optimize.errors import ConfigError, redacted
from optimize.ledger import Ledger
from optimize.load.arrivals import ClosedLoop
from optimize.outcome import ROLE, State
from optimize.plan import Plan
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.search.live_engine import engine_aware
from optimize.search.space import difference
from optimize.study.info import ATTRIBUTE, info_of, is_readable, make_info, store_info
from optimize.study.machine_class import check_machine
from optimize.study.storage import end_stale, is_shared, open_storage, serves_many
from optimize.study.trial_attributes import CONFIRMATION_ATTRS, close_record
from optimize.study.trials import trial_of

_FINGERPRINT, _ARCHIVED = "fingerprint", "archived"
_CREATE_S = 5.0
RETRIES = "retries"
TAKEN = (optuna.exceptions.UpdateFinishedTrialError,)
"""What storage raises of a trial that it had given up."""


def open_study(plan: Plan) -> optuna.Study:
    """Create the study, or resume the one of this name.

    Trials that a killed session left running are ended, and queued again.

    Raises:
        ConfigError: the study exists with another space, other objectives or another set-up.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, storage = plan.config.study, open_storage(plan.config.tracking.storage, enqueue_again)
    if settings.fresh:
        _set_aside(plan, storage)
    exists = settings.name in optuna.get_all_study_names(storage)
    study = _existing(plan, storage) if exists else _created(plan, storage)
    store_info(study, make_info(plan))
    if is_shared(study):
        end_stale(study)  # others may run: only those that fell silent are ended
    else:
        _requeue_stale(study)
    _close_records(study, Ledger(plan.folder))
    return study


def _sampler(plan: Plan, storage: BaseStorage, trials: int) -> BaseSampler:
    """The configured sampler, of a study that has so many trials."""
    # A resumed sampler must not draw again what the session before it drew, nor what another driver draws.
    shift = os.getpid() if serves_many(storage) else 0
    arrivals = plan.arrivals
    sampler = build(
        plan.config.sampler, "sampler", seed=plan.config.study.seed + trials + shift, space=plan.space.distributions,
        canonical=plan.space.canonical,
        saturation=plan.space.saturation(arrivals.users) if isinstance(arrivals, ClosedLoop) else {},
    )  # fmt: skip
    return engine_aware(sampler)


def _existing(plan: Plan, storage: BaseStorage) -> optuna.Study:
    """The study of this name, checked to be of this plan."""
    name = plan.config.study.name
    trials = storage.get_n_trials(storage.get_study_id_from_name(name))
    sampler = _sampler(plan, storage, trials)
    study = _whole(optuna.load_study(study_name=name, storage=storage, sampler=sampler))
    _check_fingerprint(plan, study)
    check_machine(name, info_of(study), make_info(plan))
    return study


def _created(plan: Plan, storage: BaseStorage) -> optuna.Study:
    """A new study, or one that another driver has begun to create this very moment."""
    study = optuna.create_study(
        study_name=plan.config.study.name, storage=storage, sampler=_sampler(plan, storage, 0), load_if_exists=True,
        directions=[o.direction.value for o in plan.objectives.values()],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(plan.objectives))  # what the dashboard shows
    study.set_user_attr(LOG_SCALE_ATTR, [o.log_scale for o in plan.objectives.values()])
    study.set_user_attr(_FINGERPRINT, plan.fingerprint())
    return study


def _whole(study: optuna.Study) -> optuna.Study:
    """A study that another driver may have begun to create a moment ago, once it is described."""
    deadline = time.monotonic() + _CREATE_S
    while is_shared(study) and ATTRIBUTE not in study.user_attrs and time.monotonic() < deadline:
        time.sleep(_CREATE_S / 20)
    return study


def _set_aside(plan: Plan, storage: BaseStorage) -> None:
    """Rename the existing study and its folder: nothing measured is ever deleted."""
    name = plan.config.study.name
    if name not in optuna.get_all_study_names(storage):
        return
    kept = f"{name}-until-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=kept)
    optuna.load_study(study_name=kept, storage=storage).set_user_attr(_ARCHIVED, True)
    optuna.delete_study(study_name=name, storage=storage)
    for child in plan.folder.iterdir():
        if child.name != "lock":
            target = plan.folder.with_name(kept)
            target.mkdir(exist_ok=True)
            child.rename(target / child.name)


def _check_fingerprint(plan: Plan, study: optuna.Study) -> None:
    old = study.user_attrs.get(_FINGERPRINT)
    if old is None:
        raise ConfigError(
            f"study {study.study_name!r} in {redacted(plan.config.tracking.storage)} was not made by this project: "
            "choose another study.name"
        )
    changed = difference(old, plan.fingerprint())
    if changed:
        raise ConfigError(
            f"study {study.study_name!r} exists with another set-up ({'; '.join(changed)}): undo the change, choose "
            "another study.name, or start anew with study.fresh=true (the old study is kept)"
        )


def _requeue_stale(study: optuna.Study) -> None:
    """End the trials that a killed session left running, and try their settings again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if _params_of(trial):
            enqueue_again(study, trial)


def _close_records(study: optuna.Study, ledger: Ledger) -> None:
    """Bring the records that a killed session left open up to what storage knows; this session's folder is its own."""
    for record in ledger.records():
        if record.state is State.RUNNING:
            close_record(record, trial_of(study, record.number))
            ledger.write(record)


def enqueue(study: optuna.Study, params: Mapping[str, Any], **attributes: Any) -> None:
    """Queue one point with attributes of its trial; the next ask gets it."""
    study.enqueue_trial(dict(params), user_attrs={RETRIES: 0, **attributes})


def enqueue_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial, retries: int = 0) -> None:
    """Queue a trial that ended without a result.

    Args:
        study: Where to.
        trial: The trial that ended.
        retries: How many tries to count against it in addition.
    """
    kept = {k: v for k, v in trial.user_attrs.items() if k in (ROLE, *CONFIRMATION_ATTRS)}
    tried = int(trial.user_attrs.get(RETRIES, 0))
    study.enqueue_trial(_params_of(trial), user_attrs={**kept, RETRIES: tried + retries})


def _params_of(trial: optuna.Trial | FrozenTrial) -> dict[str, Any]:
    """Of a queued point all that was queued, even if a kill came before the trial had taken it up."""
    if isinstance(trial, FrozenTrial):
        return dict(trial.system_attrs.get("fixed_params", trial.params))
    return dict(trial.params)


def drop_queue(study: optuna.Study, but: str) -> None:
    """End everything that is queued but for the trials of one role."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if all(t.user_attrs.get(ROLE) == but for t in waiting):
        return
    for _ in waiting:  # each ask takes the one that was queued first
        trial = study.ask()
        tell_failed(study, trial)
        if trial.user_attrs.get(ROLE) == but:
            enqueue_again(study, trial_of(study, trial.number))


def is_queued(study: optuna.Study, role: str) -> bool:
    """Whether a trial of this role waits to be asked for."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return any(t.user_attrs.get(ROLE) == role for t in waiting)


def tell_failed(study: optuna.Study, trial: optuna.Trial) -> None:
    """End a trial that says nothing about its configuration; it uses up no budget."""
    study.tell(trial, state=TrialState.FAIL)


def stored_studies(url: str) -> Sequence[optuna.Study]:
    """All studies of this project in a storage, those set aside left out."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    found = [optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)]
    return [s for s in found if is_readable(s) and not s.user_attrs.get(_ARCHIVED)]
