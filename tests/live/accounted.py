"""Runs a command and accounts for its processes: `python -m tests.live.accounted FILE COMMAND...`.

Adopts whatever outlives the command, writes those processes to FILE as JSON, one text each, and ends them. Signals are
passed on to the command; the exit code is the command's.
"""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def main(file: str, command: list[str]) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait()
    left = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    Path(file).write_text(json.dumps([" ".join([p.name(), *p.cmdline()]) for p in left]), encoding="utf-8")
    for survivor in left:
        survivor.kill()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
