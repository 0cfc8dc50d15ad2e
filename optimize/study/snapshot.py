"""A study of Optuna's storage as plain JSON, and back: storage of any kind can take it in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from optimize.study.info import info_of, store_info
from optimize.study.trust import HALF, UNPACKED

_WAITING = (TrialState.RUNNING, TrialState.WAITING)
_FIXED, _CONSTRAINT, _GENERATION = "fixed_params", "constraints:", ":generation"
"""Optuna's own attributes of a trial that are read here. All others are its dashboard's: forms, and names of files."""


def snapshot(study: optuna.Study) -> dict[str, Any]:
    """Everything that storage has of a study, with its trials in order; times are UTC.

    A trial that runs or waits is taken down as failed: nobody goes on with it elsewhere.
    """
    return {
        "directions": [direction.name.lower() for direction in study.directions],
        "attributes": dict(sorted(study.user_attrs.items())),
        "trials": [_trial(trial) for trial in study.get_trials(deepcopy=False)],
    }


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    state = TrialState.FAIL if trial.state in _WAITING else trial.state
    started = trial.datetime_start or datetime.fromtimestamp(0)
    return {
        "state": state.name,
        "values": trial.values if state is TrialState.COMPLETE else None,
        "params": trial.params,
        "distributions": {name: json.loads(distribution_to_json(d)) for name, d in trial.distributions.items()},
        "attributes": trial.user_attrs,
        "system": _system(trial.system_attrs),
        "started": _utc(started),
        "completed": _utc(trial.datetime_complete or started),
    }


def _system(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of Optuna's own attributes that a trial needs: the queued point, constraints, NSGA-II's generation."""
    kept: dict[str, Any] = {_FIXED: dict(attributes[_FIXED])} if _FIXED in attributes else {}
    kept |= {name: float(value) for name, value in attributes.items() if name.startswith(_CONSTRAINT)}
    return kept | {name: int(value) for name, value in attributes.items() if name.endswith(_GENERATION)}


def _utc(time: datetime) -> str:
    """A time of Optuna's, which is local and says nothing of its zone."""
    return time.astimezone(UTC).isoformat()


def _local(time: str) -> datetime:
    return datetime.fromisoformat(time).astimezone().replace(tzinfo=None)


def has_study(storage: BaseStorage, name: str) -> bool:
    """Whether a storage has a study of this name."""
    return name in optuna.get_all_study_names(storage)


def add_study(
    storage: BaseStorage, raw: Mapping[str, Any], name: str, marks: Mapping[str, Any] | None = None
) -> optuna.Study:  # fmt: skip
    """Add the study of a snapshot to a storage, whole or not at all.

    Args:
        storage: Has no study of this name.
        raw: What `snapshot` made.
        name: Its name there.
        marks: Attributes that it has from the first moment on, whatever the snapshot says.

    Raises:
        ValueError: the snapshot holds something else; KeyError, TypeError: a part is missing, or of another type.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # no line for each study
    trials = [_restored(number, trial) for number, trial in enumerate(raw["trials"])]
    study = optuna.create_study(storage=storage, study_name=name, directions=list(raw["directions"]))
    try:
        _describe(study, {**(marks or {}), **raw["attributes"], **(marks or {})})
        study.add_trials(trials)
    except BaseException:
        optuna.delete_study(study_name=name, storage=storage)
        raise
    return study


def settle_half(storage: BaseStorage, name: str, in_place: bool) -> None:
    """Settle a study of an archive that a process which was killed has not added whole; its files come last.

    One without files, attributes and trials was left by a process that had not come to its mark; nothing is in it.

    Args:
        storage: The storage.
        name: Name of the study; one that is whole, or of no archive, is left as it is.
        in_place: Whether its files are in place: then it is whole, and otherwise removed.
    """
    study = optuna.load_study(study_name=name, storage=storage) if has_study(storage, name) else None
    if study is None:
        return
    is_empty = not in_place and not study.user_attrs and not study.get_trials(deepcopy=False)
    if study.user_attrs.get(UNPACKED) != HALF and not is_empty:
        return
    if in_place:
        study.set_user_attr(UNPACKED, True)
    else:
        optuna.delete_study(study_name=name, storage=storage)


def _describe(study: optuna.Study, attributes: Mapping[str, Any]) -> None:
    for attribute, value in attributes.items():
        study.set_user_attr(attribute, value)
    info = info_of(study)
    store_info(study, replace(info, tags={**info.tags, "study": study.study_name}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(info.directions))  # what the dashboard shows


def study_in_memory(raw: Mapping[str, Any], name: str) -> optuna.Study:
    """The study of a snapshot, for this process alone; raises as `add_study` does."""
    return add_study(InMemoryStorage(), raw, name)


def _restored(number: int, raw: Mapping[str, Any]) -> FrozenTrial:
    state = TrialState[raw["state"]]
    if not state.is_finished():
        raise ValueError(f"trial {number} has not ended")
    return FrozenTrial(  # `optuna.create_trial` would say that it ran just now
        number=number, trial_id=number, state=state, value=None, values=raw["values"], params=dict(raw["params"]),
        distributions={name: json_to_distribution(json.dumps(d)) for name, d in raw["distributions"].items()},
        user_attrs=dict(raw["attributes"]), system_attrs=_system(raw["system"]), intermediate_values={},
        datetime_start=_local(raw["started"]), datetime_complete=_local(raw["completed"]),
    )  # fmt: skip
