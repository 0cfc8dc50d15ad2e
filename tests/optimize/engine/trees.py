"""Trees of processes under a reaper, for the tests of what ends them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from optimize.engine import reaper
from optimize.engine.process import ColdTree

# A process that starts a grandchild which ignores SIGTERM and leaves its parent's session.
STUBBORN = """
import os, signal, subprocess, sys, time
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
print("up", flush=True)
time.sleep(300)
"""


def tree_of(code: str, log: Path, grace_s: float = 0.2) -> ColdTree:
    return ColdTree([sys.executable, "-c", code], os.environ, log, grace_s)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


OWNER = (
    "import os, sys, time; from pathlib import Path; from optimize.engine.process import ColdTree\n"
    "t = ColdTree([sys.executable, '-c', {code!r}], os.environ, Path({log!r}), 0.2)\n"
    "while len(t.processes()) < 2: time.sleep(0.02)\n"
    "print(t._reaper_pid, *[p.pid for p in t.processes()], flush=True); time.sleep(300)"
)
"""A program that owns a tree and prints the process ids of its reaper and of the tree."""


def is_alive(pid: int) -> bool:
    """Whether a process lives; one whose parent has not noticed its end does not."""
    return reaper.started(pid) is not None
