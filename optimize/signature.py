"""What a figure depends on besides the configuration measured."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import psutil


@cache
def machine() -> str:
    """Processor, cores, memory and GPUs of this machine, in one line."""
    cores = psutil.cpu_count(logical=True)
    gib = round(psutil.virtual_memory().total / 2**30)
    parts = [f"{_processor()}, {cores} cores, {gib} GiB", *_gpus()]
    return "; ".join(parts)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    handles = gpu_handles()
    if not handles:
        return []
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]


@cache
def gpu_handles() -> list[Any]:
    """NVML's handles of the GPUs of this machine; none where no driver answers."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no NVML library, or no driver behind it: then there is no GPU to name
        return []
    return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
