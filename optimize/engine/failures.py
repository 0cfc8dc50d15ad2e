"""From an engine's log and exit code to why it failed, with the lines that prove it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

from optimize.errors import EngineFailure, FailureKind

_PREFIX = re.compile(r"^(\(\w+[^)]*\)\s*)?(ERROR|WARNING|INFO|DEBUG)?\s*(\d\d-\d\d \d\d:\d\d:\d\d\s*\[[^\]]*\]\s*)?")
_EXCEPTION = re.compile(
    r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)(?: \w+)*:"  # Python's
    r"|^what\(\):"  # C++'s
    r"|^Value error,"  # pydantic's
    r"|^\S*(?:serve|vllm)[\w .]*: error:"  # the argument parser's
)
_SECONDARY = (
    "Engine core initialization failed",
    "EngineDeadError",
    "WorkerProc initialization failed",
    "EngineCore failed",
    "validation error for",  # pydantic's headline; what was wrong stands in the line below it
)
_DEVICE_OOM = re.compile(r"CUDA (?:error: )?out of memory|OutOfMemoryError|HIP out of memory", re.I)
_HOST_OOM = re.compile(
    r"Cannot allocate memory|std::bad_alloc|(?<!OutOf)MemoryError|DefaultCPUAllocator: can't allocate", re.I
)
_PORT_TAKEN = re.compile(r"Address already in use", re.I)
_NO_KERNEL = re.compile(
    r"Failed to find a kernel that can implement"
    r"|No compressed-tensors compatible scheme was found"
    r"|Quantization scheme is not supported"
    r"|quantization is currently not supported in"
    r"|The quantization method \S+ is not supported"
    r"|is not supported for quantization method"
    r"|'_C' object has no attribute|_OpNamespace"
)
"""vLLM's words for: no kernel of this build serves these weights on this device, whatever else is set."""
MAX_EVIDENCE = 5
MAX_LINE = 400


def decisive_lines(log: str) -> tuple[str, ...]:
    """The lines that name the cause: exceptions and parser errors, first causes before what they led to."""
    stripped = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    hits = [line[:MAX_LINE] for line in stripped if _EXCEPTION.match(line)]
    primary = [line for line in hits if not any(mark in line for mark in _SECONDARY)]
    return tuple(dict.fromkeys(primary or hits))[:MAX_EVIDENCE]


def lacks_kernel(evidence: Iterable[str]) -> bool:
    """Whether an engine was refused for its checkpoint, not for a flag: then no other flag will help."""
    return any(_NO_KERNEL.search(line) for line in evidence)


def port_was_taken(log: str) -> bool:
    """Whether the engine failed for want of its port, which says nothing about the configuration."""
    return bool(_PORT_TAKEN.search(log))


def classify(log: str, exit_code: int | None, oom_kills: int, phase: str) -> EngineFailure:
    """Name the failure of an engine that ended.

    Args:
        log: The engine's log so far.
        exit_code: Of its main process; negative is a signal; None while that still runs.
        oom_kills: Kills by the kernel's out-of-memory killer seen in this control group since the engine started.
        phase: What was going on, e.g. "start" or "load", for the message.

    Returns:
        The failure, its message ending in the most decisive line.
    """
    evidence = decisive_lines(log)
    kind = _kind(log, exit_code, oom_kills, evidence, phase)
    how = "ended" if exit_code is None else _exit_text(exit_code)
    cause = f": {evidence[0]}" if evidence else ""
    return EngineFailure(kind, f"engine {how} during {phase}{cause}", evidence)


def _kind(log: str, exit_code: int | None, oom_kills: int, evidence: tuple[str, ...], phase: str) -> FailureKind:
    if oom_kills > 0 or _HOST_OOM.search(log):
        return FailureKind.HOST_OOM
    if _DEVICE_OOM.search(log):
        return FailureKind.DEVICE_OOM
    # At start-up an exception is vLLM's way of refusing; under load it is a crash.
    if phase == "start" and evidence and (exit_code is None or exit_code >= 0):
        return FailureKind.REFUSED
    return FailureKind.CRASH


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
