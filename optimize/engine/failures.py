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
_SHORT_OF_MEMORY = re.compile(
    r"Free memory on device \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired"
)
_EMPTY_GIB = 2.0
"""Memory in use on a GPU that nobody else uses: contexts of the driver, a desktop."""
_TROUBLE = (
    # What CUDA, NCCL, torch and vLLM (0.25 to 0.33) say of a device or its driver, and what helps.
    (r"Error in memory profiling\.", "another program freed the GPU's memory meanwhile: end it, or wait until it ends"),
    (
        r"driver on your system is too old|driver version is insufficient|unsupported display driver"
        r"|forward compatibility was attempted|driver/library version mismatch",
        "install a newer NVIDIA driver, and reboot after its update",
    ),
    (
        r"No CUDA GPUs are available|no CUDA-capable device|invalid device ordinal|Failed to infer device type"
        r"|GPU is lost|fallen off the bus|CUDA unknown error|busy or unavailable",
        "see whether nvidia-smi shows the GPU, and whether another program has it to itself",
    ),
    (
        r"illegal (?:memory access|instruction)|misaligned address|unspecified launch failure|launch timed out"
        r"|uncorrectable (?:ECC|NVLink)|hardware stack error|CUBLAS_STATUS_EXECUTION_FAILED|NCCL error",
        "where it comes again, dmesg holds the GPU's own report (Xid)",
    ),
)
_TROUBLES = [(re.compile(pattern, re.I), remedy) for pattern, remedy in _TROUBLE]
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


def device_trouble(line: str) -> str | None:
    """What helps against the trouble of a device or its driver that a line of a log shows; None where it shows none.

    Such trouble passes or is mended, so it says nothing about the configuration that met it. Memory that vLLM did not
    find free is the configuration's own affair where nobody else held any.
    """
    short = _SHORT_OF_MEMORY.search(line)
    if short and float(short["total"]) - float(short["free"]) >= _EMPTY_GIB:
        return "other programs hold the GPU's memory: end them, or set +engine.flags.gpu_memory_utilization lower"
    return next((remedy for pattern, remedy in _TROUBLES if pattern.search(line)), None)


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
