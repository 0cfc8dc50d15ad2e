"""A supervised process tree: its liveness, its memory, its end.

`ColdTree` starts one from scratch; `optimize.engine.fork_client` has one forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from optimize.engine.leftovers import PREFIX, end_left, end_leftovers, note
from optimize.engine.log_filter import FilteredLog
from optimize.engine.reaper import MARK
from optimize.errors import TransientFault

_REAPER = Path(__file__).with_name("reaper.py")
_CGROUP = Path("/sys/fs/cgroup")
_OOM_EVENTS = ("memory.events", "memory.oom_control")  # version 2 and version 1 of control groups


def oom_kills(groups: Sequence[str] = ()) -> int:
    """Number of kills by the out-of-memory killer so far; 0 where the kernel does not report it.

    Args:
        groups: Folders of control groups; none for that of this container.
    """
    return sum(_oom_kills(Path(group)) for group in groups or [str(_CGROUP)])


def _oom_kills(group: Path) -> int:
    for name in _OOM_EVENTS:
        try:
            fields = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(fields.get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


@contextmanager
def new_scratch() -> Iterator[str]:
    """A folder for a tree's temporary files while the tree is started; from then on, its reaper removes it.

    Its path is short: it holds Unix sockets.

    Raises:
        TransientFault: it cannot be made, or the start within fails for want of space, processes or permission.
    """
    try:
        scratch = tempfile.mkdtemp(prefix=PREFIX)
    except OSError as error:
        raise TransientFault(
            f"an engine has no folder for its temporary files ({error}): free space there, or name another folder in "
            "TMPDIR"
        ) from error
    try:
        yield scratch
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise TransientFault(f"an engine could not be started: {error}") from error


class ProcessTree(ABC):
    """A command and all its descendants, ended together however the project ends.

    Attributes:
        exit_code: Exit code of the main process, once it ended by itself; a negative one is a signal.
        ended: Event that the main process has ended.
        scratch: Folder of its temporary files.
    """

    def __init__(self, reaper_pid: int, log: FilteredLog, scratch: str) -> None:
        self._reaper_pid, self._log, self.scratch = reaper_pid, log, scratch
        self.exit_code: int | None = None
        self.ended = threading.Event()
        self._names: dict[int, str] = {}  # of watched processes, by file descriptor
        self._deaths = select.poll()

    def processes(self) -> list[psutil.Process]:
        """Living processes of the tree, without its reaper."""
        try:
            return psutil.Process(self._reaper_pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def watch(self) -> None:
        """From now on, count the tree as broken as soon as one of its present processes is gone."""
        processes = self.processes()
        note([process.pid for process in processes], self.scratch)  # the reaper looks at intervals
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)  # readable once the process ends: one system call checks them all
                self._names[handle] = f"{_name(process)} ({process.pid})"
                self._deaths.register(handle, select.POLLIN)

    def broken(self) -> str | None:
        """Which process died, in words; None while the tree is whole."""
        if self.ended.is_set():
            return "main process ended"
        for handle, _ in self._deaths.poll(0):
            return f"process {self._names[handle]} died"
        return None

    def pss_bytes(self) -> int:
        """Proportional set size of the tree in bytes: memory shared between its processes counts once."""
        return sum(_pss(p) for p in self.processes())

    def stop(self) -> None:
        """End the tree; returns when the reaper has verified that nothing of it is left."""
        while self._names:
            handle, _ = self._names.popitem()
            self._deaths.unregister(handle)
            os.close(handle)
        self._end()
        self._log.close()

    def settle_log(self) -> None:
        """Wait a moment until the log holds what the tree has written last."""
        self._log.settle(self.ended.is_set())

    @abstractmethod
    def _end(self) -> None:
        """Have the reaper end the tree, and wait until it has."""


class ColdTree(ProcessTree):
    """A command started from scratch, with a reaper of its own.

    Args:
        command: Program and arguments.
        env: Complete environment of the command.
        log_path: File to which its output and errors are appended.
        grace_s: Seconds between SIGTERM and SIGKILL at a stop.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log_path: Path, grace_s: float) -> None:
        end_leftovers()
        with new_scratch() as scratch:
            log = FilteredLog(log_path, scratch)
            # -I -S: the reaper needs the standard library only, and must not wait for site-packages.
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_REAPER), str(log.target), scratch, str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**env, **scratch_env(scratch)},
                text=True,
                process_group=0,  # a Ctrl-C at the terminal is the project's to handle, not the engine's
            )
        super().__init__(self._reaper.pid, log, scratch)
        self._reader = threading.Thread(target=self._read_events, daemon=True)
        self._reader.start()

    def _read_events(self) -> None:
        assert self._reaper.stdout is not None
        try:
            with self._reaper.stdout as events:
                for line in events:
                    event = event_of(line)
                    if "exit" in event:
                        self.exit_code = int(str(event["exit"]))
                        self.ended.set()
        finally:
            self.ended.set()
            self._reaper.wait()
            end_left(self.scratch)  # nothing, unless the reaper was killed

    def _end(self) -> None:
        if self._reaper.stdin is not None and not self._reaper.stdin.closed:
            self._reaper.stdin.close()
        self._reaper.wait()
        self._reader.join()


def event_of(line: str) -> dict[str, object]:
    """An event of a reaper; empty where the line is something else, which some library printed."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def scratch_env(scratch: str) -> dict[str, str]:
    """Environment that keeps a tree's temporary files and sockets in its scratch folder."""
    return {"TMPDIR": scratch, "VLLM_RPC_BASE_PATH": scratch, MARK: scratch}


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "unknown"


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time, user and system, that these processes have used so far, in seconds."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def free_port() -> int:
    """A port on loopback that no program listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
