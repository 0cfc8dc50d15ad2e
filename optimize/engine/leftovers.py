"""What a killed reaper left: an engine's processes, ended by whoever notices first.

Each reaper keeps a record of its tree (`optimize.engine.reaper.Record`). Its launcher reads that once the reaper has
ended; where the launcher is gone as well, the next one on this machine does. A process is ended only if it is proven to
be of that tree: by its number and start in the record, by the tree's mark in its environment, or by descent from such a
process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from optimize.engine.reaper import MARK, POLL_S, RECORD, descendants, started, system

PREFIX = "engine-"
"""Beginning of the names of trees' folders for temporary files."""
_END_S = 20.0
_log = logging.getLogger(__name__)


@dataclass
class _Tree:
    """A tree by its record: processes are (number, start)."""

    keeper: tuple[int, int]
    marks: frozenset[bytes]
    processes: set[tuple[int, int]] = field(default_factory=set)
    segments: set[str] = field(default_factory=set)


def end_leftovers() -> list[int]:
    """End every tree in the folder for temporary files whose reaper is gone; returns the processes that were ended."""
    with contextlib.suppress(OSError):
        folders = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
        return [pid for folder in folders for pid in end_left(str(folder))]
    return []


def end_left(scratch: str) -> list[int]:
    """End the tree of a folder for temporary files, and remove the folder, if its reaper is gone.

    Returns:
        The processes that were ended: none where the reaper lives, or ended its tree itself.
    """
    tree = _read(Path(scratch))
    if tree is None or started(tree.keeper[0]) == tree.keeper[1]:
        return []
    ended, deadline = set[int](), time.monotonic() + _END_S
    while (members := _members(tree)) and time.monotonic() < deadline:
        ended |= {pid for pid, start in members if _kill(pid, start)}
        time.sleep(POLL_S)
    for name in tree.segments:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join("/dev/shm", name))
    shutil.rmtree(scratch, ignore_errors=True)
    if ended:
        _log.warning("ended %d processes of an engine whose keeper was killed: %s", len(ended), sorted(ended))
    return sorted(ended)


def note(pids: Iterable[int], scratch: str) -> None:
    """Add processes to the record of a tree. vLLM's rename themselves, which wipes the mark from their environment."""
    lines = [{"process": [pid, start]} for pid in pids if (start := started(pid)) is not None]
    with contextlib.suppress(OSError), open(os.path.join(scratch, RECORD), "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def _read(scratch: Path) -> _Tree | None:
    """The tree of a record; None where there is none, or one of another user, machine or container."""
    try:
        folder, record = scratch.lstat(), (scratch / RECORD).lstat()
        if not (stat.S_ISDIR(folder.st_mode) and stat.S_ISREG(record.st_mode)):
            return None
        if not folder.st_uid == record.st_uid == os.geteuid():  # whoever writes a record says what is killed
            return None
        first, *lines = _lines((scratch / RECORD).read_text(encoding="utf-8"))
        if first["system"] != system():
            return None
        (pid, start), marks = first["keeper"], frozenset(f"{MARK}={mark}".encode() for mark in first["marks"])
        tree = _Tree((int(pid), int(start)), marks)
        for line in lines:
            if "process" in line:
                tree.processes.add((int(line["process"][0]), int(line["process"][1])))
            elif "segment" in line:
                tree.segments.add(os.path.basename(line["segment"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tree


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # the last line, cut off by the kill
            yield json.loads(line)


def _members(tree: _Tree) -> set[tuple[int, int]]:
    """The tree's living processes, as (number, start)."""
    roots = {pid for pid, start in tree.processes if started(pid) == start}
    roots |= {int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _has_mark(entry, tree.marks)}
    roots -= _ancestry()
    pids = roots.union(*(descendants(pid) for pid in roots))
    return {(pid, start) for pid in pids if (start := started(pid)) is not None}


def _ancestry() -> set[int]:
    """This process and all above it, of which none is anything that a reaper left."""
    pids = {os.getpid()}
    with contextlib.suppress(psutil.Error):
        pids |= {parent.pid for parent in psutil.Process().parents()}
    return pids


def _has_mark(pid: str, marks: frozenset[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return not marks.isdisjoint(environ.read().split(b"\0"))
    except OSError:
        return False


def _kill(pid: int, start: int) -> bool:
    """Kill a process unless its number has meanwhile become another's."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if started(pid) == start:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                return True
        finally:
            os.close(handle)
    return False
