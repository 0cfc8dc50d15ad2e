"""Notes, plots and files for Optuna's dashboard, read back as the dashboard reads them."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._note import get_note

from optimize.search.optuna_compat import storage_of, study_id
from optimize.tracking.dashboard import keep_log, show_study


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"])


def test_the_end_of_a_log_is_kept_with_its_trial(study: optuna.Study, tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"x" * 200_000 + b"the end")
    trial = study.ask()
    keep_log(str(tmp_path / "files"), trial, log)
    study.tell(trial, [1.0, 2.0])
    (meta,) = get_all_artifact_meta(study.trials[0], storage=storage_of(study))
    assert (meta.filename, meta.mimetype) == ("engine-log-end.txt", "text/plain")
    kept = (tmp_path / "files" / meta.artifact_id).read_bytes()
    assert kept.endswith(b"the end") and len(kept) == 64 * 1024


def test_without_a_folder_or_a_log_nothing_is_kept(study: optuna.Study, tmp_path: Path) -> None:
    trial = study.ask()
    keep_log(None, trial, tmp_path)
    keep_log(str(tmp_path / "files"), trial, tmp_path / "none.log")
    assert not (tmp_path / "files").exists()


def test_a_study_shown_again_shows_the_latest_only(study: optuna.Study, tmp_path: Path) -> None:
    report, files = tmp_path / "front.csv", tmp_path / "files"
    for text, x in (("first", 1), ("second", 2)):
        report.write_text(text)
        show_study(study, {"pareto-a-b": go.Figure(go.Scatter(x=[x]))}, f"note {text}", [report], str(files))
    assert get_note(study) == "note second"
    attributes = storage_of(study).get_study_system_attrs(study_id(study))
    plots = get_plotly_graph_objects(attributes)
    assert list(plots) == ["pareto-a-b"] and json.loads(plots["pareto-a-b"])["data"][0]["x"] == [2]
    (kept,) = [json.loads(v) for k, v in attributes.items() if k.startswith("artifacts:") and json.loads(v)]
    assert kept["filename"] == "front.csv"
    assert [p.read_text() for p in files.iterdir()] == ["second"]


def test_what_somebody_has_uploaded_stays(study: optuna.Study, tmp_path: Path) -> None:
    report, files, theirs = tmp_path / "front.csv", tmp_path / "files", tmp_path / "notes.txt"
    theirs.write_text("theirs")
    (tmp_path / "files").mkdir()
    uploaded = upload_artifact(
        artifact_store=FileSystemArtifactStore(files), file_path=str(theirs), study_or_trial=study
    )
    for text in ("first", "second"):
        report.write_text(text)
        show_study(study, {}, text, [report], str(files))
    assert (files / uploaded).read_text() == "theirs"
    assert sorted(p.read_text() for p in files.iterdir()) == ["second", "theirs"]
    attributes = storage_of(study).get_study_system_attrs(study_id(study))
    shown = [json.loads(v)["filename"] for k, v in attributes.items() if k.startswith("artifacts:") and json.loads(v)]
    assert sorted(shown) == ["front.csv", "notes.txt"]
