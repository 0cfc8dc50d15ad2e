"""GPUs as NVML describes them: their memory, and the programs that use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from optimize.hardware.devices import visible_devices

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GpuProgram:
    """A program that uses a GPU.

    Attributes:
        name: Its name; empty where neither this machine nor the driver tells it.
        pid: Its process, by the number that the driver knows, which a container may not.
        memory_bytes: GPU memory that it holds; None where the driver does not tell.
    """

    name: str
    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as NVML describes it.

    Attributes:
        number: NVML's number.
        name: Its model.
        capability: Compute capability, e.g. (8, 9); None where it is not told.
        total_bytes: Its memory; 0 where it is not told.
        free_bytes: What is free of it.
        programs: Programs that use it, whoever runs them.
    """

    number: int
    name: str
    capability: tuple[int, int] | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    programs: Sequence[GpuProgram] = ()


def gpus() -> list[Gpu]:
    """The GPUs, or slices of them, that this process may use."""
    devices = visible_devices()
    if not devices:
        return []
    import pynvml

    return [describe_gpu(pynvml, device.number, device.handle) for device in devices]


def describe_gpu(nvml: Any, number: int, handle: Any) -> Gpu:
    """One GPU, as far as it tells.

    Args:
        nvml: The module pynvml, or what stands for it.
        number: The GPU's number.
        handle: NVML's handle of it.
    """

    # The second where an older driver has no such function in the form that pynvml asks for.
    silent = (nvml.NVMLError, getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError))

    def optional(read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except silent:
            return default

    def programs(read: Callable[[Any], Sequence[Any]]) -> Sequence[Any]:
        return optional(lambda: read(handle), [])

    def name_of(pid: int) -> str:
        return _program(pid, optional(lambda: str(nvml.nvmlSystemGetProcessName(pid)), ""))

    capability = optional(lambda: tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)), None)
    memory = optional(lambda: nvml.nvmlDeviceGetMemoryInfo(handle), None)
    total, free = (memory.total, memory.free) if memory is not None else (0, 0)
    running = [
        *programs(nvml.nvmlDeviceGetComputeRunningProcesses), *programs(nvml.nvmlDeviceGetGraphicsRunningProcesses),
    ]  # fmt: skip
    distinct = {p.pid: GpuProgram(name_of(p.pid), p.pid, p.usedGpuMemory) for p in running}
    return Gpu(number, str(nvml.nvmlDeviceGetName(handle)), capability, total, free, tuple(distinct.values()))


def _program(pid: int, path: str) -> str:
    """The name of a process; by its program's path where the process is of another container."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return Path(path).name
