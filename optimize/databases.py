"""SQLite files: checked before they are used, and what is wrong with one in words, with a remedy that loses nothing.

A database that does not answer is often one that another session is using at that moment. So nothing here advises to
move or delete one: the process that holds it is named instead.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from optimize.errors import ConfigError, one_line

PREFIX = "sqlite:///"
"""Begins the address of a SQLite file."""
BUSY_S = 15.0
"""Seconds that a statement waits for another process's lock."""
_ELSEWHERE = "or choose another output_dir"
_REMEDIES = {
    sqlite3.SQLITE_NOTADB: f"bring it back from a backup, {_ELSEWHERE}",
    sqlite3.SQLITE_CORRUPT: f"bring it back from a backup, save what is left with sqlite3's .recover, {_ELSEWHERE}",
    sqlite3.SQLITE_READONLY: f"give yourself the permission to write it and its folder, {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"give yourself the permission to write it and its folder, {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"give yourself the permission to write it and its folder, {_ELSEWHERE}",
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_IOERR: "look at its disk (dmesg, df)",
}
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_WORDS = {
    sqlite3.SQLITE_NOTADB: "is not a readable SQLite database",
    sqlite3.SQLITE_CORRUPT: "is a corrupt SQLite database",
    sqlite3.SQLITE_FULL: "cannot be written",
}


def path_of(uri: str) -> Path:
    """The file of a SQLite address."""
    return Path(uri.removeprefix(PREFIX))


def check_sqlite(uri: str, table: str) -> None:
    """Refuse a SQLite file that is locked, corrupt, or somebody else's.

    Args:
        uri: Storage address; anything but sqlite is left to whoever connects to it.
        table: A table the file must have unless it is new.

    Raises:
        ConfigError: naming the file, what is wrong with it, and the remedy.
    """
    if not uri.startswith(PREFIX):
        return
    path = path_of(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        # Not read-only: what was killed while it wrote has left a journal, and rolling that back is writing.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            (health,) = connection.execute("pragma quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise ConfigError(f"{path} {fault(path, error)}") from error
    if health != "ok":
        raise ConfigError(f"{path} is a corrupt SQLite database ({health}): {_REMEDIES[sqlite3.SQLITE_CORRUPT]}")
    if tables and table not in tables:
        raise ConfigError(f"{path} belongs to another program (it has no table {table!r}): choose another output_dir")


def is_locked(error: BaseException) -> bool:
    """Whether another process held the database for too long: it is whole, and can be used later."""
    return isinstance(error, sqlite3.Error) and _code(error) in _LOCKED


def fault(path: Path, error: sqlite3.Error) -> str:
    """What is wrong with a database, and what to do about it; to be read after its name."""
    code, text = _code(error), one_line(error)
    if code in _LOCKED:
        return f"is in use by {_named(holders(path))} ({text}): wait until it has ended, or stop it; nothing is lost"
    return f"{_WORDS.get(code, 'cannot be used')} ({text}): {_REMEDIES.get(code, 'see to it')}"


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary error code; 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def holders(path: Path) -> list[int]:
    """Other processes that have a lock on a database; those that have it open where the system does not list locks."""
    files = [path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm", "journal"))]
    present = [file.resolve() for file in files if file.exists()]
    locking = set(_locking({file.stat().st_ino for file in present}))
    return sorted((locking or set(_opening({str(file) for file in present}))) - {os.getpid()})


def _locking(inodes: set[int]) -> Iterator[int]:
    """Processes by /proc/locks, whose fields are: number, type, mode, access, process, device:inode, range."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if "->" not in fields and fields[3] == "WRITE" and int(fields[5].rpartition(":")[2]) in inodes:
                yield int(fields[4])


def _opening(paths: set[str]) -> Iterator[int]:
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):  # ended meanwhile, or another user's
            if any(os.readlink(descriptor) in paths for descriptor in descriptors.iterdir()):
                yield int(descriptors.parent.name)


def _named(pids: list[int]) -> str:
    if not pids:
        return "another process"
    return " and ".join(f"process {pid}{_program(pid)}" for pid in pids[:3])


def _program(pid: int) -> str:
    """The program of a process without its arguments, which may hold secrets; the module where it is Python's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return f" ({Path(words[0]).name}{f' -m {module}' if module else ''})"
