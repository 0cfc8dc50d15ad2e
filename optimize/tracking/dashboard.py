"""Notes, files and Pareto plots for Optuna's dashboard.

The dashboard's own Pareto view reads constraints as Optuna stored them before 5.0, so it shows infeasible trials as
best; these plots respect feasibility and stand among the study's plots.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.ledger import TrialRecord
from optimize.redaction import redact
from optimize.tracking.notes import trial_note

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go
    from optuna.artifacts import FileSystemArtifactStore

_TAIL_BYTES = 64 * 1024
_PREFIX = "artifacts:"
"""Prefix of Optuna's attributes that name files (optuna.artifacts)."""
_OURS = "report_files"
"""Attribute of a study: the ids of the files that its last report has stored."""


def annotate(trial: optuna.Trial, record: TrialRecord) -> None:
    """Store the trial's note."""
    from optuna_dashboard import save_note

    save_note(trial, redact(trial_note(record)))


def keep_log(folder: str | None, trial: optuna.Trial, log: Path) -> None:
    """Store the end of an engine's log with its trial; Optuna accepts files of running trials only.

    Args:
        folder: Folder of the dashboard's files; None stores nothing.
        trial: A running trial.
        log: The engine's log; nothing is stored if the file does not exist.
    """
    if folder is None or not log.is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        end = Path(scratch) / "engine-log-end.txt"
        end.write_text(redact(_tail(log).decode("utf-8", "replace")), encoding="utf-8")
        _upload(_store(folder), end, trial)


def show_study(
    study: optuna.Study, plots: Mapping[str, go.Figure], note: str, files: Sequence[Path], folder: str | None
) -> None:
    """Store the study's note, Pareto plots and files, in place of its earlier ones.

    Args:
        study: The study.
        plots: Id -> plot, one per pair of objectives: the dashboard crops plots higher than half a screen.
        note: Markdown.
        files: Files of its report; folders are skipped.
        folder: Folder of the dashboard's files; None stores no files.
    """
    from optuna_dashboard import save_note, save_plotly_graph_object

    save_note(study, redact(note))
    for name, plot in plots.items():
        save_plotly_graph_object(study, plot, graph_object_id=name)
    if folder is not None:
        store = _store(folder)
        _remove_files(study, store)
        study.set_user_attr(_OURS, [_upload(store, file, study) for file in files if file.is_file()])


def _store(folder: str) -> FileSystemArtifactStore:
    from optuna.artifacts import FileSystemArtifactStore

    Path(folder).mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def _upload(store: FileSystemArtifactStore, file: Path, owner: Any) -> str:
    from optuna.artifacts import upload_artifact

    return upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=owner)


def _remove_files(study: optuna.Study, store: FileSystemArtifactStore) -> None:
    """Remove what this project has stored, and nothing that somebody has uploaded in the dashboard.

    As the dashboard does, an attribute becomes null, because attributes cannot be deleted.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    from optimize.search.optuna_compat import storage_of, study_id

    storage, number = storage_of(study), study_id(study)
    attributes = storage.get_study_system_attrs(number)
    for artifact in study.user_attrs.get(_OURS, []):
        key = f"{_PREFIX}{artifact}"
        if json.loads(attributes.get(key, "null")) is not None:
            storage.set_study_system_attr(number, key, json.dumps(None))
            with suppress(ArtifactNotFound):
                store.remove(artifact)


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read()
