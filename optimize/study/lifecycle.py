"""A study in Optuna's storage: created, resumed or set aside."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optimize.config.instantiate import build
from optimize.config.names import is_name, new_name
from optimize.errors import ConfigError, DamagedFile, OptimizeError
from optimize.files import remove_partial
from optimize.ledger import Ledger
from optimize.outcome import State
from optimize.plan import Plan
from optimize.redaction import redact_all, redacted
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.search.live_engine import EngineReuseSampler, engine_aware
from optimize.search.optuna_compat import storage_of, study_id
from optimize.search.permitted_sampler import PermittedSampler
from optimize.study.fingerprint import difference
from optimize.study.info import ATTRIBUTE, info_of, is_readable, make_info, store_info
from optimize.study.machine_class import check_machine
from optimize.study.queue import params_of, requeue
from optimize.study.restoration import restore
from optimize.study.storage import FAULTS, end_stale, fault_of, is_shared, open_storage, serves_many
from optimize.study.trial_attributes import close_record
from optimize.study.trials import check_trials, trial_of
from optimize.study.trust import check_trusted

_FINGERPRINT, _ARCHIVED = "fingerprint", "archived"
_CREATE_S = 5.0
TAKEN = (optuna.exceptions.UpdateFinishedTrialError,)
"""Raised by storage when a trial is told that was ended meanwhile."""


def open_study(plan: Plan, say: Callable[[str], None] = print) -> optuna.Study:
    """Create the study, or resume the one of this name.

    Trials that a killed session left running are ended, and queued again. Records that are lost are restored.

    Args:
        plan: The study's parts.
        say: Receives what was restored, and what cannot be read.

    Raises:
        ConfigError: the study exists with another space, other objectives or another set-up.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, storage = plan.config.study, open_storage(plan.config.tracking.storage, requeue, say)
    if settings.fresh:
        _set_aside(plan, storage)
    exists = settings.name in optuna.get_all_study_names(storage)
    study = _existing(plan, storage) if exists else _created(plan, storage)
    store_info(study, make_info(plan))
    if is_shared(study):
        end_stale(study)  # others may run: only those that fell silent are ended
    else:
        _requeue_stale(study)
    _close_records(study, Ledger(plan.folder), say)
    return study


def with_space(study: optuna.Study, plan: Plan) -> None:
    """Have a study's sampler search the plan's space, which has changed since the study was opened."""
    study.sampler = _sampler(plan, is_shared(study), len(study.get_trials(deepcopy=False)))


def _sampler(plan: Plan, shared: bool, trials: int) -> BaseSampler:
    """The configured sampler, for a study with this number of trials."""
    # A resumed sampler must not repeat the draws of an earlier session, nor those of another driver.
    shift = os.getpid() if shared else 0
    sampler = build(
        plan.config.sampler, "sampler", seed=plan.config.study.seed + trials + shift, space=plan.space.distributions,
        canonical=plan.space.canonical,
        saturation=plan.space.saturation(plan.users) if plan.users is not None else {},
    )  # fmt: skip
    aware = engine_aware(sampler)
    if plan.space.rules and isinstance(aware, EngineReuseSampler):  # others ask `canonical`
        return PermittedSampler(aware, plan.space.distributions, plan.space.allows, plan.space.canonical)
    return aware


def _existing(plan: Plan, storage: BaseStorage) -> optuna.Study:
    """The stored study of this name, checked to be of this plan."""
    name = plan.config.study.name
    trials = storage.get_n_trials(storage.get_study_id_from_name(name))
    sampler = _sampler(plan, serves_many(storage), trials)
    study = _described(optuna.load_study(study_name=name, storage=storage, sampler=sampler))
    if _is_empty(study) and study.directions == _directions(plan):
        _describe(study, plan)
    check_trusted(study, plan.config)
    _check_fingerprint(plan, study)
    check_trials(study, with_info=False)
    with suppress(DamagedFile):  # it is written anew
        check_machine(name, info_of(study), make_info(plan))
    return study


def _created(plan: Plan, storage: BaseStorage) -> optuna.Study:
    """A new study, or the one that another driver has created at the same moment."""
    study = optuna.create_study(
        study_name=plan.config.study.name, storage=storage, sampler=_sampler(plan, serves_many(storage), 0),
        load_if_exists=True, directions=_directions(plan),
    )  # fmt: skip
    _describe(study, plan)
    return study


def _directions(plan: Plan) -> list[StudyDirection]:
    return [StudyDirection[objective.direction.name] for objective in plan.objectives.values()]


def _describe(study: optuna.Study, plan: Plan) -> None:
    """Say whose the study is; the fingerprint comes last, so that a kill before it leaves an empty study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(plan.objectives))  # what the dashboard shows
    study.set_user_attr(LOG_SCALE_ATTR, [o.log_scale for o in plan.objectives.values()])
    study.set_user_attr(_FINGERPRINT, plan.fingerprint())


def _is_empty(study: optuna.Study) -> bool:
    """Whether a study has nothing but its objectives, as one whose command was killed while it created the study."""
    return set(study.user_attrs) <= {LOG_SCALE_ATTR} and not study.get_trials(deepcopy=False)


def _described(study: optuna.Study) -> optuna.Study:
    """Wait for the description of a study that another driver may still be creating."""
    deadline = time.monotonic() + _CREATE_S
    while is_shared(study) and ATTRIBUTE not in study.user_attrs and time.monotonic() < deadline:
        time.sleep(_CREATE_S / 20)
    return study


def _set_aside(plan: Plan, storage: BaseStorage) -> None:
    """Rename the existing study and its folder: no measurement is ever deleted, and whatever a kill interrupts can be
    done again.
    """
    name = plan.config.study.name
    stored = name in optuna.get_all_study_names(storage)
    if not stored and not Ledger(plan.folder).has_trials():
        return
    _check_movable(plan)
    archive = _kept_name(name)
    if stored:
        _copy(optuna.load_study(study_name=name, storage=storage), archive)
    _move_files(plan.folder, plan.folder.with_name(archive))
    if stored:
        optuna.delete_study(study_name=name, storage=storage)


def _copy(study: optuna.Study, name: str) -> None:
    """Copy a study within its storage. The mark comes first, so that half a copy, after a kill, is no study of the
    matrix.
    """
    storage = storage_of(study)
    copy = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
    copy.set_user_attr(_ARCHIVED, True)
    for key, value in storage.get_study_system_attrs(study_id(study)).items():
        storage.set_study_system_attr(study_id(copy), key, value)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    copy.add_trials(study.get_trials(deepcopy=False))


def _kept_name(name: str) -> str:
    return new_name(name, "until")


def _check_movable(plan: Plan) -> None:
    """Nothing but a study's own folder, directly below the studies' one, is ever moved.

    Raises:
        ConfigError: it is a link, or lies elsewhere.
    """
    studies = Path(plan.config.output_dir).resolve() / "studies"
    if plan.folder.is_symlink() or plan.folder.resolve().parent != studies.resolve():
        raise ConfigError(
            f"study.fresh=true sets the files in {plan.folder} aside, which leads to {plan.folder.resolve()}: choose "
            "another study.name, or move them yourself"
        )


def _move_files(folder: Path, target: Path) -> None:
    for child in folder.iterdir():
        if child.name != "lock":
            target.mkdir(exist_ok=True)
            child.rename(target / child.name)


def _check_fingerprint(plan: Plan, study: optuna.Study) -> None:
    old = study.user_attrs.get(_FINGERPRINT)
    if old is None:
        raise ConfigError(
            f"study {study.study_name!r} in {redacted(plan.config.tracking.storage)} "
            + (
                "has other objectives and no trials: choose another study.name, or start anew with study.fresh=true"
                if _is_empty(study)
                else "was not made by this project: choose another study.name"
            )
        )
    changed = difference(redact_all(old), plan.fingerprint())
    if changed:
        raise ConfigError(
            f"study {study.study_name!r} exists with another set-up ({'; '.join(changed)}): undo the change, choose "
            "another study.name, or start anew with study.fresh=true (the old study is kept)"
        )


def _requeue_stale(study: optuna.Study) -> None:
    """End the trials that a killed session left running, and try their settings again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if params_of(trial):
            requeue(study, trial)


def _close_records(study: optuna.Study, ledger: Ledger, say: Callable[[str], None]) -> None:
    """Restore the records that are lost, and close those that a killed session left open, as storage has them."""
    for line in restore(study, ledger):
        say(line)
    for number in ledger.numbers():
        remove_partial(ledger.trial_folder(number))
    for record in ledger.records():
        if record.state is State.RUNNING:
            close_record(record, trial_of(study, record.number))
            ledger.write(record)
    for line in ledger.damage.values():
        say(f"warning: {line}")


def warn(line: str) -> None:
    """Tell the user what is left out."""
    print(f"warning: {line}", file=sys.stderr)


def stored_studies(url: str, tell: Callable[[str], None] = warn) -> Sequence[optuna.Study]:
    """All studies of this project in a storage, those set aside left out, and those whose names lead elsewhere.

    Args:
        url: The storage.
        tell: Receives a line for each study that cannot be read, and is left out.

    Raises:
        ConfigError: the storage cannot be opened.
        OptimizeError: it does not answer any more.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    try:
        names = filter(is_name, optuna.get_all_study_names(storage))
        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        return [s for s in studies if is_readable(s) and not s.user_attrs.get(_ARCHIVED) and _is_intact(s, tell)]
    except FAULTS as fault:
        raise OptimizeError(f"storage {redacted(url)} {fault_of(url, fault)}") from fault


def _is_intact(study: optuna.Study, tell: Callable[[str], None]) -> bool:
    try:
        check_trials(study)
    except DamagedFile as error:
        tell(f"{error}; it is left out")
        return False
    return True
