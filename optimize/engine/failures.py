"""Classifies an engine's failure by its log and exit code, with the decisive lines as evidence."""

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
    "validation error for",  # pydantic's headline; the line below it says what is wrong
)
_UNRELATED = ("Error during metrics cleanup",)  # of servers with several processes, whenever one of them ends
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
"""vLLM's messages for weights that no kernel of this build serves on this device, whatever the other flags."""
MAX_EVIDENCE = 5
MAX_LINE = 400


def decisive_lines(log: str) -> tuple[str, ...]:
    """Lines that name the cause: exceptions and parser errors; consequences only where no cause is logged."""
    stripped = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    exceptions = [line[:MAX_LINE] for line in stripped if _EXCEPTION.match(line) and not line.startswith(_UNRELATED)]
    primary = [line for line in exceptions if not any(mark in line for mark in _SECONDARY)]
    return tuple(dict.fromkeys(primary or exceptions))[:MAX_EVIDENCE]


def lacks_kernel(evidence: Iterable[str]) -> bool:
    """Whether an engine was refused for its checkpoint rather than a flag, so that no other flag will help."""
    return any(_NO_KERNEL.search(line) for line in evidence)


def port_was_taken(log: str) -> bool:
    """Whether the engine failed because its port was in use, which says nothing about the configuration."""
    return bool(_PORT_TAKEN.search(log))


def classify(log: str, exit_code: int | None, oom_kills: int, phase: str) -> EngineFailure:
    """Classify the failure of an engine that ended.

    Args:
        log: The engine's log so far.
        exit_code: Exit code of its main process; a negative one is a signal; None while the process still runs.
        oom_kills: Kills by the kernel's out-of-memory killer in its control group since the engine started.
        phase: "start" or "load", for the message.

    Returns:
        The failure, its message ending in the most decisive line.
    """
    evidence = decisive_lines(log)
    kind = _kind(log, exit_code, oom_kills, evidence, phase)
    end = "ended" if exit_code is None else _exit_text(exit_code)
    cause = f": {evidence[0]}" if evidence else ""
    return EngineFailure(kind, f"engine {end} during {phase}{cause}", evidence)


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
