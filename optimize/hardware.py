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
_VISIBLE = "CUDA_VISIBLE_DEVICES"


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
    devices = visible_devices()
    if not devices:
        return []
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(device.handle)) for device in devices]


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a slice of one (MIG), that CUDA shows to this process.

    Attributes:
        name: What names it in CUDA_VISIBLE_DEVICES: NVML's number, or the UUID of a slice.
        number: NVML's number of the GPU, also of a slice's.
        handle: NVML's handle of it.
    """

    name: int | str
    number: int
    handle: Any


def visible_devices() -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES leaves this process, in its order; all GPUs where it is not set.

    It is read as CUDA reads it: numbers, beginnings of a GPU's UUID and UUIDs of slices, up to the first that names no
    device or one that was named before. An empty text or -1 leaves none.
    """
    handles, named = gpu_handles(), os.environ.get(_VISIBLE)
    if not handles:
        return []
    if named is None:
        return [Device(number, number, handle) for number, handle in enumerate(handles)]
    import pynvml

    return named_devices(pynvml, handles, named)


def visibility() -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES by numbers where it names GPUs by UUIDs, whose beginnings vLLM does not take.

    Empty where it needs no other form. NVML's numbers are CUDA's in the order of the bus.
    """
    named = os.environ.get(_VISIBLE, "")
    devices = visible_devices() if "GPU-" in named else []
    if not devices:
        return {}
    return {_VISIBLE: ",".join(str(device.name) for device in devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def named_devices(nvml: Any, handles: Sequence[Any], named: str) -> list[Device]:
    """The devices that a value of CUDA_VISIBLE_DEVICES names.

    Args:
        nvml: The module pynvml, or what stands for it.
        handles: NVML's handles of all GPUs.
        named: The value.
    """
    devices: list[Device] = []
    for text in named.split(","):
        device = _named_device(nvml, handles, text.strip())
        if device is None or device.name in [other.name for other in devices]:
            break
        devices.append(device)
    return devices


def _named_device(nvml: Any, handles: Sequence[Any], text: str) -> Device | None:
    if text.isdigit():
        return Device(int(text), int(text), handles[int(text)]) if int(text) < len(handles) else None
    if text.startswith("MIG-"):
        return _slice(nvml, text)
    if not text.startswith("GPU-"):
        return None
    alike = [n for n, handle in enumerate(handles) if str(nvml.nvmlDeviceGetUUID(handle)).startswith(text)]
    return Device(alike[0], alike[0], handles[alike[0]]) if len(alike) == 1 else None


def _slice(nvml: Any, uuid: str) -> Device | None:
    """A slice by its UUID; None where the driver has none of that name."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return Device(uuid, int(nvml.nvmlDeviceGetIndex(_whole_gpu(nvml, handle))), handle)
    except nvml.NVMLError:
        return None


def whole_gpus() -> list[Any]:
    """NVML's handles of the visible GPUs and of those that visible slices are of, which have the clocks."""
    numbers = dict.fromkeys(device.number for device in visible_devices())
    return [gpu_handles()[number] for number in numbers]


def _whole_gpu(nvml: Any, handle: Any) -> Any:
    """The handle of the GPU that a slice is of."""
    try:
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except nvml.NVMLError:
        return handle


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


def gpu_settings() -> str:
    """Driver, CUDA release, power limit and clocks of the visible GPUs; empty without any."""
    devices = visible_devices()
    if not devices:
        return ""
    import pynvml

    return describe_settings(pynvml, [gpu_handles()[device.number] for device in devices])


def describe_settings(nvml: Any, handles: Sequence[Any]) -> str:
    """As `gpu_settings`, as far as the driver tells; alike GPUs are described once.

    Args:
        nvml: The module pynvml, or what stands for it.
        handles: NVML's handles of the GPUs.
    """

    def optional(read: Callable[[], str]) -> str:
        try:
            return read()
        except (nvml.NVMLError, AttributeError):
            return ""

    def of_gpu(handle: Any) -> str:
        parts = (
            optional(lambda: f"power limit {nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000:.0f} W"),
            optional(lambda: f"up to {nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)} MHz"),
            optional(lambda: f"memory {nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)} MHz"),
            optional(lambda: "" if nvml.nvmlDeviceGetEccMode(handle)[0] else "ECC off"),
        )
        return ", ".join(filter(None, parts))

    def cuda() -> str:
        release = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
        return f"CUDA {release // 1000}.{release % 1000 // 10}"

    software = ", ".join(
        filter(None, (optional(lambda: f"driver {nvml.nvmlSystemGetDriverVersion()}"), optional(cuda)))
    )
    return "; ".join(filter(None, [software, *dict.fromkeys(map(of_gpu, handles))]))
