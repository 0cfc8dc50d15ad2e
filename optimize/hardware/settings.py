"""What GPUs are set to, on which their speed depends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optimize.hardware.devices import gpu_handles, visible_devices


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
