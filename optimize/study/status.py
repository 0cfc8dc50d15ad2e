"""Where a session on a study stands: a small file in the study's folder, for whoever watches it from outside.

A session that is killed writes no end. So the file names its process, and a reader asks whether that still runs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.errors import DamagedFile, OptimizeError, one_line
from optimize.files import read_json, reading, write_atomically

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FILE = "status.json"
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
_REMEDY = "the next session writes it anew"
_SILENCE_S = 900.0
"""Seconds without news after which a session on another machine counts as interrupted."""


@dataclass(frozen=True)
class Status:
    """A session, as it wrote of itself last.

    Attributes:
        state: running, finished, failed or interrupted.
        place: The machine, since it was started, as `here` names it.
        pid: Id of the session's process.
        ticks: When that process was started, in the kernel's clock ticks: another one may get its id later.
        began_at: Unix time.
        updated_at: Unix time of the last news.
        trial: The present trial and its settings.
        phase: What it is doing.
        phase_at: Unix time at which the phase began.
        done: Trials done of those that count.
        total: Trials that count; 0 where their number is not known.
        best: The best trial so far, in words.
        ends_at: Unix time at which the study is expected to end; None where that is not known.
        reason: Why it failed.
    """

    state: str
    place: str
    pid: int
    ticks: int
    began_at: float
    updated_at: float
    trial: str = ""
    phase: str = ""
    phase_at: float = 0.0
    done: int = 0
    total: int = 0
    best: str = ""
    ends_at: float | None = None
    reason: str = ""

    def now(self) -> str:
        """The state; a session that says it is running, and whose process is gone, is interrupted."""
        return INTERRUPTED if self.state == RUNNING and not self._is_alive() else self.state

    def _is_alive(self) -> bool:
        if self.place != here():
            return time.time() - self.updated_at < _SILENCE_S
        return started_at(self.pid) == self.ticks


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Write the beginning and the end of a session to a study's folder."""
    now = time.time()
    _write(folder, Status(RUNNING, here(), os.getpid(), started_at(os.getpid()) or 0, now, now))
    try:
        yield
    except KeyboardInterrupt:
        update(folder, state=INTERRUPTED)
        raise
    except BaseException as error:
        update(folder, state=FAILED, reason=reason_of(error))
        raise
    update(folder, state=FINISHED)


def failure_of(folder: Path) -> str:
    """Why the last session on a study failed; empty where it did not, or where nobody can say."""
    with suppress(DamagedFile):
        status = read(folder)
        return status.reason if status else ""
    return ""


def reason_of(error: BaseException) -> str:
    """What an error says; after its class where it was not written for people, as the 1 of SystemExit(1)."""
    name, text = type(error).__name__, one_line(error)
    return text if isinstance(error, OptimizeError | OSError) or text == name else f"{name}: {text}"


def update(folder: Path, **news: Any) -> None:
    """Write what has changed; nothing before a session of this process has begun, or where the disk is full.

    The end of an earlier session stays as it is where a command is refused before its own begins.
    """
    with suppress(DamagedFile):
        if (status := read(folder)) and (status.place, status.pid) == (here(), os.getpid()):
            _write(folder, replace(status, **news, updated_at=time.time()))


def _write(folder: Path, status: Status) -> None:
    with suppress(OSError):  # the study goes on unwatched
        write_atomically(folder / FILE, json.dumps(asdict(status)))


def read(folder: Path) -> Status | None:
    """The last session's status; None where none was written.

    Raises:
        DamagedFile: it cannot be read.
    """
    raw = read_json(folder / FILE, _REMEDY)
    with reading(folder / FILE, _REMEDY):
        return _schema().validate_python(raw) if raw else None


@cache
def _schema() -> TypeAdapter[Status]:
    from pydantic import TypeAdapter

    return TypeAdapter(Status)


@cache
def here() -> str:
    """This machine, since it was started, as its processes are numbered here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return f"{os.uname().nodename}:{boot}:{os.stat('/proc/self/ns/pid').st_ino}"


def started_at(pid: int) -> int | None:
    """When a process of this machine was started, in clock ticks; None where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(numbers[18])
