"""A trial's record in Optuna's storage: the user attributes that hold it, written and read back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives import Estimate
from optimize.ledger import TrialRecord
from optimize.outcome import ROLE, Role, State
from optimize.redaction import redact_all

IMPUTED = "imputed"
"""Attribute of a completed trial: whether its values are imputed, because it could not be measured."""
NEW_ENGINE = "new_engine"
"""Attribute of a trial: whether it started an engine."""
DTYPE = "dtype"
"""Attribute of a trial: the data type that vLLM chose."""
CONFIRMS, CONFIRMING, ROUND = CONFIRMATION_ATTRS = ("confirms", "confirming", "round")
"""Attributes of a confirmation's trial: which trial it measures again, for which confirmation, in which round."""
STATE = "state"
"""Attribute of a trial that was told with its result: how it ended."""
_FIELDS = (
    "answers_key", "capacity", "config", "cut_short", "disturbed", DTYPE, "estimates", "feasible", NEW_ENGINE, "pace",
    "paired", "reason", "seconds", "signature", "started_at", STATE,
)  # fmt: skip
"""Fields of a record that are stored under their own names; violations are stored as Optuna's constraints."""


def attributes_of(record: TrialRecord) -> dict[str, Any]:
    """User attributes that hold a concluded record."""
    values = redact_all({name: getattr(record, name) for name in _FIELDS if name != "estimates"})
    values["estimates"] = {name: estimate.to_dict() for name, estimate in record.estimates.items()}
    values[STATE] = str(record.state)
    if record.state is not State.FAILED:
        values[IMPUTED] = record.state is not State.COMPLETED
    return values


def estimates_of(trial: FrozenTrial) -> dict[str, Estimate]:
    """Metric -> figure of a measured trial."""
    return {name: Estimate.from_dict(raw) for name, raw in trial.user_attrs["estimates"].items()}


def record_of(study: optuna.Study, trial: FrozenTrial) -> TrialRecord:
    """The record of an ended trial as stored; the only one where another driver ran the trial."""
    record = TrialRecord(
        study=study.study_name, number=trial.number, role=role_of(trial.user_attrs), params=dict(trial.params),
        config={}, signature={}, confirms=trial.user_attrs.get(CONFIRMS), state=State.FAILED,
    )  # fmt: skip
    _read(record, trial)
    return record


def role_of(attributes: Mapping[str, Any]) -> Role:
    """Role by a trial's attributes; the search's where they hold none."""
    return Role(attributes.get(ROLE, Role.SEARCH))


def close_record(record: TrialRecord, trial: FrozenTrial) -> None:
    """Complete a record that a kill left open from storage, which is written first."""
    if trial.state is TrialState.COMPLETE:
        _read(record, trial)
    else:
        record.state, record.reason = State.FAILED, "the session was killed"
    record.ended_at = time.time()


def _read(record: TrialRecord, trial: FrozenTrial) -> None:
    """Set the fields of a record that the trial's attributes hold; earlier versions did not store all of them."""
    stored = {name: trial.user_attrs[name] for name in _FIELDS if name in trial.user_attrs}
    if "estimates" in stored:
        stored["estimates"] = estimates_of(trial)
    if STATE in stored:
        stored[STATE] = State(stored[STATE])
    for name, value in stored.items():
        setattr(record, name, value)
    record.violations = dict(trial.constraints)
