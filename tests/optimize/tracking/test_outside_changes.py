"""MLflow's store changed from outside: runs deleted in its pages, a database replaced, a results folder moved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from optimize.config.schema import Tracking
from optimize.ledger import Ledger
from optimize.outcome import State
from optimize.study.info import StudyInfo
from optimize.sync import sync_study
from optimize.testing.made_up_study import made_up_study
from optimize.tracking.mlflow_mirror import Mirror
from optimize.tracking.run_state import FILE, RunStates

INFO = StudyInfo(tags={"study": "made-up", "model": "made up"})


def tracking(out: Path, experiment: str = "optimize") -> Tracking:
    return Tracking(f"sqlite:///{out}/mlflow.db", experiment, f"{out}/artifacts", f"sqlite:///{out}/optuna.db")


def client(out: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")


def runs(out: Path, experiment: str = "optimize") -> list[Any]:
    result = client(out).get_experiment_by_name(experiment)
    return list(client(out).search_runs([result.experiment_id])) if result is not None else []


def run_of(folder: Path) -> str:
    state = RunStates(tracking(folder.parents[1]), folder.parents[1]).read(folder)
    return "" if state is None else state.run_id


def sync(out: Path, experiment: str = "optimize") -> int:
    return sync_study(Ledger(out / "studies/made-up"), tracking(out, experiment))


@pytest.fixture
def out(tmp_path: Path, empty_mlflow_db: Path) -> Path:
    """An output folder with a study of three trials in the ledger and in MLflow."""
    folder = tmp_path / "out"
    folder.mkdir()
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    made_up_study(folder / "studies/made-up", 3)
    INFO.write(folder / "studies/made-up")
    assert sync(folder) == 3 and len(runs(folder)) == 4
    return folder


def delete_experiment(out: Path) -> None:
    result = client(out).get_experiment_by_name("optimize")
    assert result is not None
    client(out).delete_experiment(result.experiment_id)


def delete_study_run(out: Path) -> None:
    client(out).delete_run(run_of(out / "studies/made-up"))


def delete_all_runs(out: Path) -> None:
    for run in runs(out):
        client(out).delete_run(run.info.run_id)


@pytest.mark.parametrize("delete", [delete_experiment, delete_study_run, delete_all_runs])
def test_what_is_written_to_again_is_restored(
    out: Path, delete: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    study = out / "studies/made-up"
    ids, pending = run_of(study), RunStates(tracking(out), out)
    pending.write(study / "trials/0001", run_of_trial(out, 1), complete=False)
    delete(out)
    assert sync(out) == 1
    assert "had been deleted in MLflow; it is restored" in capsys.readouterr().out
    assert run_of(study) == ids and {run_of_trial(out, 1), ids} <= {r.info.run_id for r in runs(out)}
    assert sync(out) == 0


def run_of_trial(out: Path, number: int) -> str:
    state = RunStates(tracking(out), out).read(out / f"studies/made-up/trials/{number:04d}")
    assert state is not None
    return state.run_id


@pytest.mark.parametrize("delete", [delete_experiment, delete_study_run])
def test_deleted_while_a_trial_runs_its_end_is_mirrored_all_the_same(out: Path, delete: Callable[[Path], None]) -> None:
    ledger = Ledger(out / "studies/made-up")
    mirror = Mirror(tracking(out), ledger, INFO, say=lambda _: None)
    record = next(ledger.records())
    record.number, record.started_at, record.state = 3, 5000.0, State.RUNNING
    record.params["env.NAME"] = None
    mirror.begin(record)
    delete(out)
    record.state = State.COMPLETED
    mirror.end(record)
    mirror.close_parent({"score": 2.0}, "note", [], "FINISHED")
    by_id = {r.info.run_id: r for r in runs(out)}
    assert by_id[run_of_trial(out, 3)].info.status == "FINISHED"
    assert by_id[run_of_trial(out, 3)].data.params["env.NAME"] == "unset"
    assert by_id[run_of(out / "studies/made-up")].data.metrics["score"] == 2.0


def test_what_was_mirrored_and_then_deleted_stays_deleted(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    delete_all_runs(out)
    assert sync(out) == 0 and runs(out) == []
    assert "study made-up was deleted in MLflow, and stays so" in capsys.readouterr().out


def test_a_new_database_receives_everything_once(out: Path, empty_mlflow_db: Path) -> None:
    shutil.copy(empty_mlflow_db, out / "mlflow.db")
    assert [sync(out), sync(out)] == [3, 0] and len(runs(out)) == 4


def test_another_experiment_has_runs_of_its_own(out: Path) -> None:
    assert sync(out, "second") == 3 and len(runs(out, "second")) == len(runs(out)) == 4


def test_a_lost_state_finds_its_run_again(out: Path) -> None:
    study = out / "studies/made-up"
    before = {r.info.run_id for r in runs(out)}
    (study / FILE).write_text("")
    (study / "trials/0000" / FILE).write_text("[]")
    (study / "trials/0001" / FILE).unlink()
    assert sync(out) == 2 and {r.info.run_id for r in runs(out)} == before


@pytest.mark.parametrize("transfer", [shutil.move, shutil.copytree])
def test_a_results_folder_can_be_moved(out: Path, tmp_path: Path, transfer: Callable[[Path, Path], object]) -> None:
    ids = {r.info.run_id for r in runs(out)}
    there = tmp_path / "elsewhere"
    transfer(out, there)
    assert sync(there) == 0 and {r.info.run_id for r in runs(there)} == ids
    ledger = Ledger(there / "studies/made-up")
    ledger.write(replace(next(ledger.records()), number=3, started_at=5000.0))
    assert sync(there) == 1
    addresses = {r.info.run_id: r.info.artifact_uri for r in runs(there)}
    assert set(addresses) == {*ids, run_of_trial(there, 3)}
    assert all(address.startswith((there / "artifacts").as_uri()) for address in addresses.values())
    assert (there / "artifacts" / run_of_trial(there, 3) / "artifacts/trial.json").is_file()
    assert not (out / "artifacts" / run_of_trial(there, 3)).exists()
