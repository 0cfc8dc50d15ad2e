"""Faults of a disk: makes one file operation of the code under test fail, at one site after the other.

A site is an operation (open, write, fsync, rename, mkdir, mkfifo, commit) on a kind of file by a function of the
project, the foundations left out: a helper that all writers share would otherwise hide them. Operations are seen by
Python's audit hook, which cannot be removed, so there is one for the process and it asks the injector that is active.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pyarrow.parquet
from sqlalchemy.engine.default import DefaultDialect

from tests.faults.study import SCRATCH

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
_IN_SQLITE = {
    errno.ENOSPC: "database or disk is full", errno.EIO: "disk I/O error",
    errno.EACCES: "attempt to write a readonly database",
}  # fmt: skip
OPEN, WRITE, FSYNC, RENAME, MKDIR, MKFIFO, COMMIT = "open", "write", "fsync", "rename", "mkdir", "mkfifo", "commit"
_PACKAGES = (f"{os.sep}optimize{os.sep}", f"{os.sep}objectives{os.sep}")
_ROOT = str(Path(__file__).resolve().parents[2])
_FOUNDATIONS = ("files.py", "ledger.py")
_TRIAL_BEGINS = "optimize/driver/preparation.py:begin"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, order=True, slots=True)
class Site:
    """Where a fault strikes.

    Attributes:
        kind: The file's name, numbers replaced.
        operation: What fails.
        function: File and name of the project's function that asks for it.
        background: Whether a thread asks that is to outlive it, rather than the main one.
    """

    kind: str
    operation: str
    function: str
    background: bool = False

    def __str__(self) -> str:
        return f"{self.operation} of {self.kind} in {self.function}{' in the background' if self.background else ''}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that struck."""

    site: Site
    code: int

    def __str__(self) -> str:
        return f"{errno.errorcode[self.code]} at {self.site}"


class Injector:
    """Makes operations on files fail, each site's once.

    Of the main thread's operations at most one fails between two trials, so that every fault is seen by itself; those
    of other threads, which are to go on, all fail.

    Args:
        folder: Only files below it are of interest.
        lasting: Whether everything that follows a fault of the main thread fails as well, until the session ends.

    Attributes:
        sites: All sites seen so far.
        pending: Site -> error that is to strike there.
    """

    def __init__(self, folder: Path, lasting: bool = False) -> None:
        self._folder, self._lasting = str(folder), lasting
        self._has_struck, self._lock = False, threading.Lock()
        self._struck: list[Fault] = []
        self.sites: dict[Site, None] = {}  # in order
        self.pending: dict[Site, int] = {}

    @contextmanager
    def session(self) -> Iterator[list[Fault]]:
        """Faults strike within; yields those that do."""
        self._has_struck, self._struck = False, []
        with ExitStack() as stack:
            for target, name, part in (
                (builtins, "open", self._open), (io, "open", self._open), (os, "fsync", self._fsync),
                (os, "mkfifo", self._mkfifo), (pyarrow.parquet, "write_table", self._write_table),
                (DefaultDialect, "do_commit", self._commit()),
            ):  # fmt: skip
                stack.enter_context(patch.object(target, name, part))
            _active.append(self)
            stack.callback(_active.remove, self)
            yield self._struck

    def fault(self, operation: str, path: str) -> int | None:
        """The error with which an operation is to fail; None where it is to go on."""
        if not path.startswith(self._folder) or (function := _function(sys._getframe(1))) is None:
            return None
        in_main = threading.current_thread() is threading.main_thread()
        site = Site(_kind(path), operation, function, background=not in_main)
        with self._lock:
            self.sites.setdefault(site)
            if self._lasting and self._has_struck:
                return self._struck[-1].code
            if in_main and function == _TRIAL_BEGINS:
                self._has_struck = False
            if (in_main and self._has_struck) or site not in self.pending:
                return None
            self._has_struck |= in_main
            self._struck.append(Fault(site, self.pending.pop(site)))
            return self._struck[-1].code

    def check(self, operation: str, path: str) -> None:
        """Raise the error with which an operation is to fail, if it is to."""
        if (code := self.fault(operation, path)) is not None:
            raise OSError(code, os.strerror(code), path)

    # --- operations that the audit hook does not see ------------------------------------------------------------------

    def _open(self, file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wxa") or (code := self.fault(WRITE, os.fspath(file))) is None:
            return _OPEN(file, mode, *arguments, **named)
        raw = _HalfWritten(file, mode.replace("b", "").replace("t", ""), code)
        if 0 in (named.get("buffering"), *arguments[:1]):
            return raw
        binary = io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding=named.get("encoding"))

    def _fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self.check(FSYNC, os.readlink(f"/proc/self/fd/{number}"))
        _FSYNC(descriptor)

    def _mkfifo(self, path: Any, *arguments: Any) -> None:
        self.check(MKFIFO, os.fspath(path))
        _MKFIFO(path, *arguments)

    def _write_table(self, table: Any, where: Any, **named: Any) -> None:
        _WRITE_TABLE(table, where, **named)
        if isinstance(where, str | os.PathLike) and (code := self.fault(WRITE, os.fspath(where))) is not None:
            os.truncate(where, os.path.getsize(where) // 2)
            raise OSError(code, os.strerror(code), os.fspath(where))

    def _commit(self) -> Any:
        def commit(dialect: Any, connection: Any) -> None:
            path = _database_of(connection)
            if path and (code := self.fault(COMMIT, path)) is not None:
                connection.rollback()
                raise sqlite3.OperationalError(_IN_SQLITE[code])
            _COMMIT(dialect, connection)

        return commit


class _HalfWritten(io.FileIO):
    """A file on a disk that takes half of the first write."""

    def __init__(self, file: Any, mode: str, code: int) -> None:
        super().__init__(file, mode)
        self._code = code

    def write(self, data: Any) -> int:
        super().write(bytes(data)[: len(data) // 2])
        raise OSError(self._code, os.strerror(self._code), self.name)


_OPEN, _FSYNC, _MKFIFO, _WRITE_TABLE = open, os.fsync, os.mkfifo, pyarrow.parquet.write_table
_COMMIT: Callable[[Any, Any], None] = DefaultDialect.do_commit
_active: list[Injector] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and flags & _WRITING:
            _active[-1].check(OPEN, os.fsdecode(path))
    elif event == "os.rename":
        _active[-1].check(RENAME, os.fsdecode(arguments[1]))
    elif event == "os.mkdir" and not os.path.isdir(arguments[0]):
        _active[-1].check(MKDIR, os.fsdecode(arguments[0]))


sys.addaudithook(_hook)


def _database_of(connection: Any) -> str:
    """The file that a pooled SQLite connection has written to since its last commit; empty for none."""
    raw = getattr(connection, "driver_connection", connection)
    if not isinstance(raw, sqlite3.Connection) or not raw.in_transaction:
        return ""
    return next((str(path) for _, name, path in raw.execute("pragma database_list") if name == "main"), "")


def _function(frame: FrameType | None) -> str | None:
    """File and name of the innermost function of the project, of the foundations only if there is no other."""
    innermost = None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_ROOT) and any(file.startswith(_ROOT + package) for package in _PACKAGES):
            name = f"{file.removeprefix(_ROOT + os.sep)}:{frame.f_code.co_name}"
            innermost = innermost or name
            if os.path.basename(file) not in _FOUNDATIONS:
                return name
        frame = frame.f_back
    return innermost


def _kind(path: str) -> str:
    """A file's name with its varying parts replaced; what other packages keep in a folder of theirs is of one kind."""
    for folder in ("datasets", "artifacts", "locks"):
        if f"{os.sep}{folder}{os.sep}" in path:
            return folder
    name = re.sub(r"^\.(.*)\.\d+\.part$", r"\1", os.path.basename(path))
    if name.startswith("tmp") or os.path.basename(os.path.dirname(path)) == SCRATCH:
        return "temporary"
    return re.sub(r"[0-9a-f-]{8,}|\d+", "N", re.sub(r"^.*(?=\.svg$)", "figure", name))
