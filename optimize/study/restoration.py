"""Records of the ledger that were lost or damaged, written anew from what Optuna's storage has of their trials."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import optuna
from optuna.trial import FrozenTrial

from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role
from optimize.study.storage import is_shared
from optimize.study.trial_attributes import STATE, close_record, record_of, role_of
from optimize.study.trials import trial_of


def restore(study: optuna.Study, ledger: Ledger) -> list[str]:
    """Write the records of ended trials that cannot be read, or are gone; what cannot be read is kept beside them.

    Storage has all that a recommendation needs. The audit of the load and the engine's last lines are lost.

    Returns:
        A line for the terminal per record.
    """
    lines = []
    for trial in _lost(study, ledger):
        damaged = ledger.set_aside(trial.number)
        ledger.write(_restored(study, trial))
        fault = f"could not be read, and is kept as {damaged.name}" if damaged else "was gone"
        lines.append(f"note: trial {trial.number} is restored from Optuna's storage: its trial.json {fault}")
    return lines


def _lost(study: optuna.Study, ledger: Ledger) -> Iterator[FrozenTrial]:
    """The ended trials of this ledger without a readable record."""
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished() or ledger.read(trial.number) is not None:
            continue
        if ledger.is_damaged(trial.number) or STATE in trial.user_attrs and not is_shared(study):
            yield trial


def _restored(study: optuna.Study, trial: FrozenTrial) -> TrialRecord:
    record = record_of(study, trial)
    if STATE not in trial.user_attrs:
        close_record(record, trial)
    role = record.role if record.confirms is None else role_of(trial_of(study, record.confirms).user_attrs)
    record.baseline = role is Role.BASELINE
    record.started_at = record.started_at or _unix(trial.datetime_start) or 0.0  # earlier versions did not store it
    record.ended_at = _unix(trial.datetime_complete)
    return record


def _unix(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
