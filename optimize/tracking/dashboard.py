"""What Optuna's dashboard shows beside the trials' values: notes, files, and a Pareto plot that knows what is feasible.

The dashboard's own Pareto view reads constraints as Optuna stored them before 5.0, so it takes infeasible trials for
best; ours stands among the study's plots.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.ledger import TrialRecord
from optimize.tracking.notes import trial_note

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go
    from optuna.artifacts import FileSystemArtifactStore

_TAIL_BYTES = 64 * 1024
_PREFIX = "artifacts:"
"""Of Optuna's attributes that name files (optuna.artifacts)."""


def annotate(trial: optuna.Trial, record: TrialRecord) -> None:
    """Give a trial its note."""
    from optuna_dashboard import save_note

    save_note(trial, trial_note(record))


def keep_log(folder: str | None, trial: optuna.Trial, log: Path) -> None:
    """Keep the end of an engine's log with its trial; Optuna takes it only before the trial is told.

    Args:
        folder: Of the dashboard's files; None keeps nothing.
        trial: A running trial.
        log: The engine's log; nothing is kept where there is none.
    """
    if folder is None or not log.is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        end = Path(scratch) / "engine-log-end.txt"
        end.write_bytes(_tail(log))
        _upload(_store(folder), end, trial)


def show_study(
    study: optuna.Study, plots: Mapping[str, go.Figure], note: str, files: Sequence[Path], folder: str | None
) -> None:
    """Give the study its note, its Pareto plots and its files; what it had of these before is replaced.

    Args:
        study: The study.
        plots: Id -> plot; the dashboard cuts off what is higher than half a screen, so one per pair of objectives.
        note: Markdown.
        files: Of its report; folders among them are left out.
        folder: Of the dashboard's files; None keeps none.
    """
    from optuna_dashboard import save_note, save_plotly_graph_object

    save_note(study, note)
    for name, drawn in plots.items():
        save_plotly_graph_object(study, drawn, graph_object_id=name)
    if folder is not None:
        store = _store(folder)
        _remove_files(study, store)
        for file in filter(Path.is_file, files):
            _upload(store, file, study)


def _store(folder: str) -> FileSystemArtifactStore:
    from optuna.artifacts import FileSystemArtifactStore

    Path(folder).mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def _upload(store: FileSystemArtifactStore, file: Path, owner: Any) -> None:
    from optuna.artifacts import upload_artifact

    upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=owner)


def _remove_files(study: optuna.Study, store: FileSystemArtifactStore) -> None:
    """As the dashboard itself removes a file: its attribute becomes null, for attributes cannot be deleted."""
    from optuna.artifacts.exceptions import ArtifactNotFound

    from optimize.search.optuna_compat import storage_of, study_id

    storage, number = storage_of(study), study_id(study)
    for key, value in storage.get_study_system_attrs(number).items():
        if key.startswith(_PREFIX) and json.loads(value) is not None:
            storage.set_study_system_attr(number, key, json.dumps(None))
            try:
                store.remove(key.removeprefix(_PREFIX))
            except ArtifactNotFound:
                continue


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read()
