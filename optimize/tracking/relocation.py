"""Artifacts of an embedded MLflow store whose folder was moved or copied.

MLflow stores absolute addresses of artifacts and has no way to change them. They are corrected in its database, before
MLflow opens it: otherwise new files would go to the old place, and old ones would not be shown.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SQLITE = "sqlite:///"
_BUSY_S = 30.0


def relocate(uri: str, experiment: str, artifacts: str | None) -> None:
    """Have an experiment's artifacts at the configured place, and those of its runs whose files are there.

    Args:
        uri: The tracking store; only SQLite files are corrected.
        experiment: Name of the experiment.
        artifacts: Folder of the artifacts; None leaves them where they are.
    """
    database = Path(uri.removeprefix(_SQLITE))
    if not uri.startswith(_SQLITE) or artifacts is None or not database.is_file():
        return
    with closing(sqlite3.connect(database, timeout=_BUSY_S)) as connection, connection:
        if connection.execute("select 1 from sqlite_master where name = 'experiments'").fetchone():
            _relocate(connection, experiment, Path(artifacts).resolve())


def _relocate(connection: sqlite3.Connection, experiment: str, folder: Path) -> None:
    query = "select experiment_id, artifact_location from experiments where name = ?"
    number, former = connection.execute(query, (experiment,)).fetchone() or (None, "")
    if _path(former) in (None, folder):
        return
    update = "update experiments set artifact_location = ? where experiment_id = ?"
    connection.execute(update, (folder.as_uri(), number))
    runs = connection.execute("select run_uuid, artifact_uri from runs where experiment_id = ?", (number,)).fetchall()
    for run, address in runs:
        place = folder / address.removeprefix(former).lstrip("/")
        if address.startswith(f"{former}/") and place.exists():
            connection.execute("update runs set artifact_uri = ? where run_uuid = ?", (place.as_uri(), run))


def _path(address: str) -> Path | None:
    """The local folder that an address names; None where it names anything else."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path else None
