"""The fork server: a process that has imported vLLM once and forks each engine, in two seconds instead of thirty.

Everything that touches vLLM's internals is in `optimize.engine.vllm_adaptation`. Three checks come before it: the
release must be one it was written for, the source must look as expected (`optimize.engine.source_check`), and a fork
must compute (`_self_test`). If one of them fails, the launcher starts engines cold.

Run as `python -m optimize.engine.fork_server`. Commands come as JSON lines on standard input: {"start": {...}},
{"stop": grace_s}, {"check": {...}}. Events go to standard output as the reaper's do: {"ready": true} or
{"unavailable": reason} first, then {"refusal": reason} for each "check".

Before a fork, this process must have run no OpenMP parallel region, not have touched CUDA, and have no other thread.
A forked engine's environment, random state and temporary folder are set in the child (`_fork`).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
from typing import Any, NoReturn

from optimize.engine import source_check
from optimize.engine.kernel_check import forked_refusal
from optimize.engine.reaper import (
    POLL_S,
    PR_SET_PDEATHSIG,
    Record,
    SharedMemory,
    become_reaper,
    end_tree,
    end_with_parent,
    reap,
    report,
    restore_signals,
)
from optimize.engine.serve import serve
from optimize.engine.vllm_adaptation import Unsupported, adapt, check_version, preload

_SELF_TEST_S = 60.0


def _prepare() -> None:
    from optimize.engine.flags import vllm_distribution, vllm_root

    check_version(vllm_distribution()[1])
    if problems := source_check.problems(source_check.outline(vllm_root())):
        raise Unsupported(problems[0])
    gc.disable()  # collections among ten thousand new modules take a fifth of the import
    try:
        preload()
        adapt()
    except Unsupported:
        raise
    except Exception as error:  # whatever the import or the adaptation raises, the remedy is the same: start cold
        raise Unsupported(f"{type(error).__name__}: {error}") from error
    if threading.active_count() > 1:
        raise Unsupported(f"importing vLLM started threads: {[t.name for t in threading.enumerate()]}")
    _self_test()
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, every page of the imports
    gc.enable()


def _self_test() -> None:
    """Fork once and compute: a runtime that does not survive a fork would hang or kill every engine.

    Raises:
        Unsupported: the fork did not give the correct result in time.
    """
    pid = os.fork()
    if not pid:
        import torch

        correct = bool((torch.ones(64, 256) @ torch.ones(256, 64) == 256).all())
        os._exit(0 if correct else 1)
    deadline = time.monotonic() + _SELF_TEST_S
    while (code := reap(pid)) is None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    if code:
        raise Unsupported(f"a forked process could not compute (exit code {code})")


def _fork(start: dict[str, Any]) -> int:
    """Fork one engine; returns its process id in the parent, and never returns in the child."""
    sys.stdout.flush()
    parent, pid = os.getpid(), os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    end_with_parent(parent)
    restore_signals()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(start["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(start["env"])
    random.seed()
    tempfile.tempdir = None  # read again from TMPDIR
    serve(start["args"])
    _leave()


def _leave() -> NoReturn:
    """End a forked process without unloading the inherited modules one by one, which takes a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _commands(timeout_s: float | None, buffer: bytearray) -> list[dict[str, Any]] | None:
    """Complete commands received so far; None once the client has closed the pipe."""
    readable, _, _ = select.select([0], [], [], timeout_s)
    if not readable:
        return []
    received = os.read(0, 1 << 16)
    if not received:
        return None
    buffer += received
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return [json.loads(line) for line in lines]


def main() -> None:
    become_reaper()
    # Nothing reads the pipe while vLLM is being imported: until then, the kernel ends this process with its parent.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        _prepare()
    except Unsupported as reason:
        report(unavailable=str(reason))
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    report(ready=True)
    engine, scratch, buffer, memory = 0, "", bytearray(), SharedMemory()
    while (commands := _commands(POLL_S if engine else None, buffer)) is not None:
        for command in commands:
            if "check" in command:
                report(refusal=forked_refusal(**command["check"]))
            elif "start" in command:
                scratch = command["start"]["scratch"]
                record = Record(scratch)
                memory = SharedMemory(record)
                engine = _fork(command["start"])
                record.note([engine])
            elif engine:
                end_tree(engine, float(command["stop"]), scratch, memory)
                engine = 0
                report(stopped=True)
            else:
                report(stopped=True)
        if engine and (code := reap(engine)) is not None:
            report(exit=code)
            end_tree(engine, 0.0, scratch, memory)
            engine = 0
        if engine:
            memory.scan_if_due()
    if engine:
        end_tree(engine, 0.0, scratch, memory)


if __name__ == "__main__":
    main()
