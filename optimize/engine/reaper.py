"""Reaper of one engine's process tree: starts it, reports its end, and leaves nothing behind.

It runs as a program of its own with the standard library alone, so that it starts in a few hundredths of a second.
Its standard input is a pipe from the launcher. When that closes for any reason (a stop, an exception, a kill -9 of the
parent), the reaper ends the whole tree. It is the subreaper of orphans (prctl(2)), so no descendant can escape by
outliving its parent: once it has no children left, the tree is proven dead.

Events go to standard output as JSON lines: {"exit": code} (negative: a signal), {"stopped": true}.
Usage: reaper.py LOG SCRATCH GRACE_S COMMAND...; SCRATCH is the tree's folder for temporary files, removed at the end.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.02
_SHM = "/dev/shm"
_YOUNG_S, _SCAN_YOUNG_S, _SCAN_S = 60, 0.5, 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def report(**event: object) -> None:
    """Write an event for the launcher, if it is still there."""
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The parent is gone; there is still a tree to end, and the interpreter flushes once more at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def become_reaper() -> None:
    """Adopt every orphaned descendant, and ignore signals: only the pipe decides when the tree ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def restore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def descendants(root: int) -> list[int]:
    """Process ids of all living descendants of `root`, without zombies, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                state, parent = stat.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry))
    pids, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        pids += below
        queue += below
    return pids


def reap(main: int) -> int | None:
    """Reap every dead child; returns the exit code of `main` if it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == main:
            code = os.waitstatus_to_exitcode(status)


def childless() -> bool:
    """Whether no child is left to wait for; a killed process with many threads is a zombie before it can be reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class SharedMemory:
    """Shared-memory segments of a tree, which neither killed processes nor the system would remove.

    A segment is removed only if it did not exist before the tree, and if the tree was observed to hold it open or its
    name carries one of the tree's process ids (joblib's semaphores).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before = set(_segments())
        self._opened: set[str] = set()
        self._pids: set[int] = set()
        self._began = self._scanned_at = clock()

    def scan_if_due(self) -> None:
        """Scan often while the engine starts, when segments are made, and rarely afterwards, when it is measured."""
        now = self._clock()
        if now - self._scanned_at >= (_SCAN_YOUNG_S if now - self._began < _YOUNG_S else _SCAN_S):
            self.scan()

    def scan(self) -> None:
        self._scanned_at = self._clock()
        for pid in descendants(os.getpid()):
            self._pids.add(pid)
            with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as handles:
                for handle in handles:
                    with contextlib.suppress(OSError):
                        folder, name = os.path.split(os.readlink(handle.path))
                        if folder == _SHM:
                            self._opened.add(name)

    def remove(self) -> None:
        marks = tuple(f"sem.loky-{pid}-" for pid in self._pids)
        for name in set(_segments()) - self._before:
            if name not in self._opened and not name.startswith(marks):
                continue
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(_SHM, name))


def _segments() -> list[str]:
    return os.listdir(_SHM) if os.path.isdir(_SHM) else []


def end_tree(main: int, grace_s: float, scratch: str, memory: SharedMemory) -> None:
    """SIGTERM the main process, SIGKILL what remains after the grace, and remove the files that the tree created."""
    memory.scan()
    if main in descendants(os.getpid()):
        signal_all([main], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (alive := descendants(os.getpid())) or not childless():
        if time.monotonic() >= deadline:
            signal_all(alive, signal.SIGKILL)
        time.sleep(POLL_S)
        reap(main)
    memory.remove()
    shutil.rmtree(scratch, ignore_errors=True)


def keep(log_path: str, scratch: str, grace_s: float, command: list[str]) -> None:
    become_reaper()
    memory = SharedMemory()
    with open(log_path, "ab") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=restore_signals,
        )
    while True:
        readable, _, _ = select.select([0], [], [], POLL_S)
        if readable and not os.read(0, 1):
            break
        code = reap(child.pid)
        if code is not None:
            report(exit=code)
            break
        memory.scan_if_due()
    end_tree(child.pid, grace_s, scratch, memory)
    report(stopped=True)


if __name__ == "__main__":
    keep(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
