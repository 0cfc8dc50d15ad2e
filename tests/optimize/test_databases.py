"""SQLite files are checked before a study relies on them, and no remedy moves or deletes one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from optimize.databases import check_sqlite, fault, holders
from optimize.errors import ConfigError
from optimize.study.storage import open_storage


def test_servers_new_files_and_empty_ones_pass(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    check_sqlite("postgresql://db/optuna", "studies")
    check_sqlite(f"sqlite:///{tmp_path}/empty.db", "studies")
    check_sqlite(f"sqlite:///{tmp_path}/new/optuna.db", "studies")
    assert (tmp_path / "new").is_dir()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(ConfigError, match=r"optuna\.db is not a readable SQLite database"):
        check_sqlite(f"sqlite:///{tmp_path}/optuna.db", "studies")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        connection.execute("create table recipes (name text)")
    with pytest.raises(ConfigError, match=r"optuna\.db belongs to another program \(it has no table 'studies'\)"):
        check_sqlite(f"sqlite:///{tmp_path}/optuna.db", "studies")


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table studies (name text)")
        connection.executemany("insert into studies values (?)", [("x" * 3000,)] * 100)
        connection.commit()
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"\xff" * 32768
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"optuna\.db is (a corrupt|not a readable) SQLite database"):
        check_sqlite(f"sqlite:///{path}", "studies")


def test_a_database_in_a_folder_of_any_name_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "a#b 100%20 研究"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "optuna.db")) as connection:
        connection.execute("create table studies (id)")
        connection.commit()
    check_sqlite(f"sqlite:///{folder}/optuna.db", "studies")
    with pytest.raises(ConfigError, match="belongs to another program"):
        check_sqlite(f"sqlite:///{folder}/optuna.db", "experiments")
    assert [path.name for path in folder.iterdir()] == ["optuna.db"]


def test_a_database_whose_writer_was_killed_passes(tmp_path: Path) -> None:
    """Its copy is taken in the middle of a transaction that no longer fits in memory."""
    with closing(sqlite3.connect(tmp_path / "live.db")) as writer:
        writer.execute("create table experiments (name text)")
        writer.execute("pragma cache_size=1")
        writer.executemany("insert into experiments values (?)", [("x" * 3000,)] * 100)
        for part in ("db", "db-journal"):
            shutil.copy(tmp_path / f"live.{part}", tmp_path / f"left.{part}")
    left = tmp_path / "left.db"
    with pytest.raises(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{left}?mode=ro", uri=True)) as reader:
        reader.execute("select * from experiments")
    check_sqlite(f"sqlite:///{left}", "experiments")
    with closing(sqlite3.connect(left)) as reader:
        assert reader.execute("select * from experiments").fetchall() == []


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin exclusive")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A database that another process has locked, and that process."""
    path = tmp_path / "optuna.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table studies (name text)")
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield path, process.pid
        process.kill()


def test_whoever_holds_a_locked_database_is_named(locked: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path, pid = locked
    monkeypatch.setattr("optimize.databases.BUSY_S", 0.05)
    with pytest.raises(ConfigError) as refusal:
        check_sqlite(f"sqlite:///{path}", "studies")
    message = str(refusal.value)
    assert f"is in use by process {pid} (python" in message and "wait until it has ended, or stop it" in message
    assert "move" not in message and "begin exclusive" not in message, "arguments may hold secrets"


def test_those_that_have_it_open_are_found_where_locks_are_not_listed(
    locked: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pid = locked
    monkeypatch.setattr("optimize.databases._locking", lambda _: [])
    with closing(sqlite3.connect(path)):
        assert holders(path) == [pid] and os.getpid() not in holders(path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (sqlite3.SQLITE_CORRUPT, "is a corrupt SQLite database .*backup"),
        (sqlite3.SQLITE_NOTADB, "is not a readable SQLite database .*backup"),
        (sqlite3.SQLITE_READONLY, "cannot be used .*permission"),
        (sqlite3.SQLITE_CANTOPEN | (1 << 8), "cannot be used .*permission"),
        (sqlite3.SQLITE_FULL, "cannot be written .*free some space"),
        (sqlite3.SQLITE_IOERR | (3 << 8), "cannot be used .*look at its disk"),
        (sqlite3.SQLITE_BUSY | (2 << 8), "is in use by another process .*wait"),
    ],
)
def test_each_fault_has_its_own_remedy_and_none_moves_the_database(tmp_path: Path, code: int, message: str) -> None:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    text = fault(tmp_path / "optuna.db", error)
    assert "what SQLite says" in text and "move" not in text and "delete" not in text
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(text)


def test_a_database_of_another_release_of_optuna_is_refused_in_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    open_storage(url)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as connection, connection:
        connection.execute("update alembic_version set version_num = 'v99'")
    with pytest.raises(ConfigError, match=r"optuna\.db: it was made by another release of Optuna"):
        open_storage(url)
