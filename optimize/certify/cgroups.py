"""Limits on an engine's memory and disk by control groups below the process's own, where the system permits them.

A group below the process's own does not affect the limits that the process is under. It is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_REMOVE_S = 10.0
_SQUEEZE_SHARES = (0.1, 0.01, 0.001, 0.0)


class Denied(Exception):
    """Why this system does not permit a limit, in words."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group that limits memory.

    Attributes:
        folder: Folder of the group.
        version: Version of control groups, 1 or 2.
    """

    folder: Path
    version: int

    def used_bytes(self) -> int:
        return int((self.folder / ("memory.current" if self.version == 2 else "memory.usage_in_bytes")).read_text())

    def limit(self, limit_bytes: int | None) -> None:
        """Set the limit, or lift it with None. The kernel reclaims what it can (the page cache) to meet it."""
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        unlimited = "max" if self.version == 2 else "-1"
        (self.folder / name).write_text(unlimited if limit_bytes is None else str(limit_bytes))

    def squeeze(self) -> None:
        """Set the limit at or just below what the group holds, so that its next allocation exceeds it.

        Version 2 kills where too little can be reclaimed; version 1 refuses such a limit.
        """
        for share in _SQUEEZE_SHARES:
            with contextlib.suppress(OSError):
                self.limit(int((1 - share) * self.used_bytes()))
                return

    def kills(self) -> int:
        """Number of processes that the kernel has killed in it for lack of memory."""
        events = self.folder / ("memory.events" if self.version == 2 else "memory.oom_control")
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts.get("oom_kill", 0))


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A memory group without a limit yet.

    Raises:
        Denied: the system does not allow one.
    """
    with _group("memory") as (folder, version):
        yield MemoryGroup(folder, version)


@contextmanager
def disk_group(path: Path, bytes_per_s: int) -> Iterator[Path]:
    """A group whose processes read the disk that holds `path` at most at this speed.

    Raises:
        Denied: the system does not allow one.
    """
    device = os.stat(path).st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    with _group("blkio", "io") as (folder, version):
        name = "io.max" if version == 2 else "blkio.throttle.read_bps_device"
        limit = f"{numbers} rbps={bytes_per_s}" if version == 2 else f"{numbers} {bytes_per_s}"
        try:
            (folder / name).write_text(limit)
        except OSError as error:
            raise Denied(f"the kernel does not throttle device {numbers} ({error.strerror})") from error
        yield folder


@contextmanager
def _group(controller: str, unified: str | None = None) -> Iterator[tuple[Path, int]]:
    own, version = _own_group(controller)
    folder = own / f"certify-{controller}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
    except OSError as error:
        raise Denied(
            f"no control group can be made below the process's own of {controller!r} ({error.strerror})"
        ) from error
    try:
        if version == 2 and not (folder / f"{unified or controller}.max").exists():
            raise Denied(f"the controller {unified or controller!r} is not delegated to groups below the process's own")
        yield folder, version
    finally:
        _remove(folder)


def _own_group(controller: str) -> tuple[Path, int]:
    """Folder and version of this process's control group."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Denied(f"this kernel has no control groups ({error.strerror})") from error
    return own_group(lines, controller, _ROOT)


def own_group(lines: list[str], controller: str, root: Path) -> tuple[Path, int]:
    """Folder and version of a process's group, from the lines of its /proc/PID/cgroup.

    Raises:
        Denied: no mounted one holds it.
    """
    paths = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    for names, path in paths.items():
        if controller in names.split(",") and (root / controller).is_dir():
            return root / controller / path.lstrip("/"), 1
    if "" in paths and (root / "cgroup.controllers").exists():
        return root / paths[""].lstrip("/"), 2
    raise Denied(f"no control group of {controller!r} is mounted here")


def _remove(folder: Path) -> None:
    """Remove a group, which is possible once its last process is reaped."""
    deadline = time.monotonic() + _REMOVE_S
    while folder.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
