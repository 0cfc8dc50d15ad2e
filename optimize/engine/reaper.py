"""Keeps one engine's process tree: starts it, reports its end, and leaves nothing behind.

Run as a program of its own with the standard library alone, so that it starts in a few hundredths of a second.
Its standard input is a pipe from the project; when that closes, for whatever reason (a stop, an exception, kill -9 of
the parent), the whole tree is ended. It makes itself the reaper of orphans, so a descendant cannot slip away by
outliving its parent: "no children left" is then proof that the tree is dead.

Events go to standard output as JSON lines: {"exit": code} (negative: signal), {"stopped": true}.
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

PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.02
_SHM = "/dev/shm"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def report(**event: object) -> None:
    """Tell the project, if it is still there."""
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The parent is gone; there is still a tree to end, and the interpreter flushes once more at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def become_reaper() -> None:
    """Inherit every orphaned descendant, and let only the pipe decide when the tree ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def restore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def descendants(root: int) -> list[int]:
    """Process ids of all living descendants of `root`, zombies left out, from /proc."""
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
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def reap(main: int) -> int | None:
    """Collect every dead child; the exit code of `main` if it was among them."""
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
    """Whether nothing is left to wait for: a killed process with many threads is a zombie before it can be reaped."""
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
    """Segments that a tree opens: processes that are killed do not remove them, and the system never does.

    Only what the tree was seen to hold open, or what carries one of its process ids in its name (joblib's semaphores),
    and what was not there before it, is removed.
    """

    def __init__(self) -> None:
        self._before = set(_segments())
        self._seen: set[str] = set()
        self._pids: set[int] = set()
        self._began = self._looked_at = time.monotonic()

    def look_now_and_then(self) -> None:
        """Often while the engine starts, when segments are made; rarely afterwards, when it is being measured."""
        now = time.monotonic()
        if now - self._looked_at >= (0.5 if now - self._began < 60 else 30):
            self.look()

    def look(self) -> None:
        self._looked_at = time.monotonic()
        for pid in descendants(os.getpid()):
            self._pids.add(pid)
            with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as handles:
                for handle in handles:
                    with contextlib.suppress(OSError):
                        folder, name = os.path.split(os.readlink(handle.path))
                        if folder == _SHM:
                            self._seen.add(name)

    def remove(self) -> None:
        marks = tuple(f"sem.loky-{pid}-" for pid in self._pids)
        for name in set(_segments()) - self._before:
            if name not in self._seen and not name.startswith(marks):
                continue
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(_SHM, name))


def _segments() -> list[str]:
    return os.listdir(_SHM) if os.path.isdir(_SHM) else []


def end_tree(main: int, grace_s: float, scratch: str, memory: SharedMemory) -> None:
    """SIGTERM the main process, SIGKILL what is left after the grace until nothing is, remove what the tree made."""
    memory.look()
    if main in descendants(os.getpid()):
        signal_all([main], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := descendants(os.getpid())) or not childless():
        if time.monotonic() >= deadline:
            signal_all(left, signal.SIGKILL)
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
        memory.look_now_and_then()
    end_tree(child.pid, grace_s, scratch, memory)
    report(stopped=True)


if __name__ == "__main__":
    keep(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
