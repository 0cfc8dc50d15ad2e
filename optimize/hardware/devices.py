"""The GPUs, and slices of them, that CUDA shows to this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"


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
