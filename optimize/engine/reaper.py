"""Reaper of one engine's process tree: starts it, reports its end, and leaves nothing behind.

It runs as a program of its own with the standard library alone, so that it starts in a few hundredths of a second.
Its standard input is a pipe from the launcher. When that closes for any reason (a stop, an exception, a kill -9 of the
parent), the reaper ends the whole tree. It is the subreaper of orphans (prctl(2)), so no descendant can escape by
outliving its parent: once it has no children left, the tree is proven dead.

Where the reaper itself is killed, the kernel kills the main process with it (`end_with_parent`), and the record that
it keeps in SCRATCH tells `optimize.engine.leftovers` which other processes are left.

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
from collections.abc import Callable, Iterable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MARK = "OPTIMIZE_KEEPER"
"""Environment variable that a tree's processes inherit: its value is one tree's, or one fork server's, alone."""
RECORD = "processes.jsonl"
_LIBC = ctypes.CDLL(None)
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
    _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def restore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once, if it has ended already."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def started(pid: int) -> int | None:
    """Clock ticks from the machine's start to that of a living process; None where there is none, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def system() -> str:
    """This machine since it was started, as processes are numbered here: numbers mean the same under equal values."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
        return f"{boot.read().strip()}:{os.stat('/proc/self/ns/pid').st_ino}"


class Record:
    """A file with a tree's processes and shared memory, for the case that its reaper is killed; only appended to.

    Lines of JSON: {"system": ..., "keeper": [pid, start], "marks": [...]} first, then {"process": [pid, start]} and
    {"segment": name}. A record that cannot be written costs no engine.
    """

    def __init__(self, scratch: str) -> None:
        self._path = os.path.join(scratch, RECORD)
        self._noted: set[object] = set()
        marks = sorted({scratch, os.environ.get(MARK, scratch)})
        self._append([{"system": system(), "keeper": [os.getpid(), started(os.getpid())], "marks": marks}])

    def note(self, pids: Iterable[int], segments: Iterable[str] = ()) -> None:
        """Add what is not recorded yet."""
        processes = {(pid, start) for pid in pids if (start := started(pid)) is not None} - self._noted
        names = set(segments) - self._noted
        lines: list[dict[str, object]] = [{"process": list(process)} for process in processes]
        self._append(lines + [{"segment": name} for name in names])
        self._noted |= processes | names

    def _append(self, lines: list[dict[str, object]]) -> None:
        if lines:
            with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))


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

    Args:
        record: Where each scan is recorded.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, record: Record | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._record, self._clock = record, clock
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
        pids = descendants(os.getpid())
        self._pids.update(pids)
        for pid in pids:
            with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as handles:
                for handle in handles:
                    with contextlib.suppress(OSError):
                        folder, name = os.path.split(os.readlink(handle.path))
                        if folder == _SHM:
                            self._opened.add(name)
        if self._record is not None:
            self._record.note(pids, self._opened - self._before)

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
    record, keeper = Record(scratch), os.getpid()
    memory = SharedMemory(record)

    def begin() -> None:
        restore_signals()
        end_with_parent(keeper)

    with open(log_path, "ab") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=begin,
        )
    record.note([child.pid])
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
