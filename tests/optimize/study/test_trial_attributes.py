"""A record survives Optuna's storage, and attributes of earlier versions are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from objectives import Estimate
from optimize.errors import FailureKind
from optimize.ledger import TrialRecord
from optimize.outcome import ROLE, Completed, Evaluation, Failed, Infeasible, Outcome, Role, State
from optimize.study.trial_attributes import IMPUTED, attributes_of, close_record, record_of
from tests.storages import storage_at, study_at

QPS = Estimate(10.0, 9.0, 11.0, 40, "1/s")
PAIRED = {"bleu": {"p": 0.5}}
MEASURED = Evaluation(
    Completed({"qps": QPS}),
    "fp16",
    {"total": 12.0},
    {"sent": 40},
    ["busy"],
    ["busier"],
    "slow",
    PAIRED,
    False,
    "bfloat16",
)


def concluded(evaluation: Evaluation, violations: dict[str, float] | None = None) -> TrialRecord:
    record = TrialRecord("s", 0, Role.BASELINE, {"x": 1}, {"engine_key": "e"}, {"machine": "m"}, baseline=True)
    record.seconds["ask"] = 0.5
    record.conclude(evaluation, violations)
    return record


def stored(record: TrialRecord, folder: Path) -> optuna.Study:
    """A study in SQLite, read anew, whose only trial is the record's."""
    url = f"sqlite:///{folder}/optuna.db"
    study = optuna.create_study(study_name="s", storage=storage_at(url))
    study.enqueue_trial({"x": 1})
    trial = study.ask({"x": optuna.distributions.IntDistribution(0, 3)})
    for name, value in {ROLE: str(record.role), **attributes_of(record)}.items():
        trial.set_user_attr(name, value)
    for name, violation in record.violations.items():
        trial.set_constraint(name, violation)
    study.tell(trial, 1.0)
    return study_at(url, "s")


def test_a_measured_record_is_read_back_from_storage(tmp_path: Path) -> None:
    record = concluded(MEASURED, {"runs": -1.0})
    study = stored(record, tmp_path)
    copy = record_of(study, study.trials[0])
    only_on_disk = {"audit": {}, "repeated": [], "baseline": False, "ended_at": None}
    assert vars(copy) == {**vars(record), **only_on_disk}
    assert study.trials[0].user_attrs[IMPUTED] is False


@pytest.mark.parametrize(
    ("outcome", "state", "reason", "imputed"),
    [
        (Infeasible(FailureKind.REFUSED, "no kernel", ("line",)), State.INFEASIBLE, "refused: no kernel", True),
        (Failed("port taken"), State.FAILED, "port taken", None),
    ],
)
def test_stored_values_of_trials_without_figures(
    outcome: Outcome, state: State, reason: str, imputed: bool | None, tmp_path: Path
) -> None:
    record = concluded(Evaluation(outcome))
    attributes = attributes_of(record)
    assert (attributes["state"], attributes["reason"], attributes["feasible"]) == (str(state), reason, False)
    assert attributes.get(IMPUTED) is imputed
    study = stored(record, tmp_path)
    assert record_of(study, study.trials[0]).state is state


def test_an_objective_that_is_missing_makes_a_measured_configuration_infeasible() -> None:
    record = TrialRecord("s", 0, Role.SEARCH, {}, {}, {})
    record.conclude(MEASURED, {"runs": 1.0}, missing=["p99_ttft_s"])
    assert (record.state, record.reason) == (State.INFEASIBLE, "p99_ttft_s could not be measured")
    assert record.estimates == {"qps": QPS} and not record.feasible


@pytest.mark.parametrize(("violation", "feasible"), [(-0.5, True), (0.0, True), (0.1, False)])
def test_a_record_is_feasible_while_no_constraint_is_violated(violation: float, feasible: bool) -> None:
    assert concluded(MEASURED, {"p99_latency_s <= 2": violation}).feasible is feasible


def test_an_open_record_is_closed_with_what_storage_was_told(tmp_path: Path) -> None:
    told = concluded(MEASURED, {"runs": -1.0})
    study = stored(told, tmp_path)
    record = TrialRecord("s", 0, Role.BASELINE, {"x": 1}, {"engine_key": "e"}, {"machine": "m"}, baseline=True)
    close_record(record, study.trials[0])
    assert record.ended_at is not None and record.baseline
    assert record.state is State.COMPLETED and record.estimates == {"qps": QPS} and record.seconds == told.seconds


def test_a_record_whose_trial_was_never_told_was_killed() -> None:
    study = optuna.create_study()
    record = TrialRecord("s", 0, Role.SEARCH, {}, {}, {})
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    close_record(record, study.trials[0])
    assert (record.state, record.reason) == (State.FAILED, "the session was killed")


@pytest.mark.parametrize("missing", ["answers_key", "cut_short", "disturbed", "dtype", "new_engine", "paired"])
def test_trials_of_versions_that_stored_less_are_read(missing: str, tmp_path: Path) -> None:
    attributes: dict[str, Any] = {ROLE: "search", **attributes_of(concluded(MEASURED))}
    del attributes[missing]
    study = optuna.create_study(storage=storage_at(f"sqlite:///{tmp_path}/optuna.db"))
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=attributes))
    record = record_of(study, study.trials[0])
    fresh = TrialRecord("s", 0, Role.SEARCH, {}, {}, {})
    assert getattr(record, missing) == getattr(fresh, missing) and record.estimates == {"qps": QPS}
