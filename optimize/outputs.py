"""Where results go, looked at before anything starts: folders and SQLite files."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from optimize.errors import ConfigError


def check_writable(key: str, path: Path) -> None:
    """Make a folder, and see that files can be written there.

    Args:
        key: What of the configuration it is.
        path: The folder.

    Raises:
        ConfigError: naming both.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot write to {path} ({error.strerror}): choose a folder you may write to"
        ) from error


def check_sqlite(uri: str, table: str) -> None:
    """Refuse a SQLite file that is corrupt, or somebody else's.

    Args:
        uri: Storage address; anything but sqlite is left to whoever connects to it.
        table: A table the file must have unless it is new.

    Raises:
        ConfigError: naming the file.
    """
    if not uri.startswith("sqlite:///"):
        return
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        return
    remedy = "move it away, or choose another output_dir"
    try:
        # Not read-only: what was killed while it wrote has left a journal, and rolling that back is writing.
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            (health,) = connection.execute("pragma quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{path} is not a readable SQLite database ({error}): {remedy}") from error
    if health != "ok":
        raise ConfigError(f"{path} is a corrupt SQLite database ({health}): {remedy}")
    if tables and table not in tables:
        raise ConfigError(f"{path} belongs to another program (it has no table {table!r}): {remedy}")
