"""The machine that a figure was measured on: processor, cores, memory and GPUs."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
_INSTRUCTIONS = {
    "amx_int8": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512_vnni": "AVX-512 VNNI", "avx512f": "AVX-512",
    "avx2": "AVX2", "sve": "SVE", "asimd": "NEON",
}  # fmt: skip
"""Instruction sets that decide which kernels a CPU engine runs, widest first: Linux' name -> the usual one."""


@cache
def machine() -> str:
    """Processor, cores, memory and GPUs that this process may use, in one line."""
    total, available = psutil.cpu_count(logical=True) or 1, len(os.sched_getaffinity(0))
    cores = f"{available} of {total} cores" if available < total else f"{total} cores"
    gib = round(psutil.virtual_memory().total / 2**30)
    parts = [f"{_processor()}, {cores}, {gib} GiB", *_gpus()]
    return "; ".join(parts)


def _processor() -> str:
    try:
        return processor_of(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return processor_of("")


def processor_of(cpuinfo: str) -> str:
    """The first processor in /proc/cpuinfo: its name, generation, and widest instruction set.

    Hosts of virtual machines often name no more than the maker, and an engine's speed with each data type depends on
    the instructions that its kernels can use.
    """
    lines = (line.partition(":") for line in cpuinfo.split("\n\n")[0].splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    flags = fields.get("flags", fields.get("Features", "")).split()
    family = (
        f"family {fields['cpu family']} model {fields['model']}" if {"cpu family", "model"} <= fields.keys() else ""
    )
    widest = next((name for flag, name in _INSTRUCTIONS.items() if flag in flags), "")
    details = ", ".join(filter(None, (family, widest)))
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({details})" if details else name


def emulates(machine: str, dtype: str) -> bool:
    """Whether an x86 processor has no instructions for a type of 16 bits, by the machine's line; False with a GPU.

    Processors with AMX compute both types, those with AVX-512 BF16 only bfloat16.
    """
    native = {"float16": ("AMX",), "bfloat16": ("AMX", "AVX-512 BF16")}.get(dtype, ("",))
    return "AVX" in machine and ";" not in machine and not any(name in machine for name in native)


def _gpus() -> list[str]:
    handles = gpu_handles()
    if not handles:
        return []
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(handles[number])) for number in visible_gpus(len(handles))]


def visible_gpus(total: int) -> list[int]:
    """Numbers of the GPUs, of `total`, that CUDA_VISIBLE_DEVICES leaves visible; all where it does not use numbers."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    numbers = [int(n) for n in named.split(",") if n.strip().isdigit()]
    visible = [number for number in numbers if number < total]
    return visible if named and len(numbers) == len(named.split(",")) else list(range(total))


@cache
def gpu_handles() -> list[Any]:
    """NVML's handles of the GPUs of this machine; none where no driver answers."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no NVML library, or no driver behind it: then there is no GPU to name
        return []
    return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]


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
    """The GPUs that this process may use."""
    handles = gpu_handles()
    if not handles:
        return []
    import pynvml

    return [describe_gpu(pynvml, number, handles[number]) for number in visible_gpus(len(handles))]


def describe_gpu(nvml: Any, number: int, handle: Any) -> Gpu:
    """One GPU, as far as it tells.

    Args:
        nvml: The module pynvml, or what stands for it.
        number: The GPU's number.
        handle: NVML's handle of it.
    """

    def optional(read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except nvml.NVMLError:
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
