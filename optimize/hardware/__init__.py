"""The machine that a figure was measured on: processor, cores, memory and GPUs."""

from optimize.hardware.devices import Device, gpu_handles, named_devices, visibility, visible_devices, whole_gpus
from optimize.hardware.gpu import Gpu, GpuProgram, describe_gpu, gpus
from optimize.hardware.processor import emulates, machine, processor_of
from optimize.hardware.settings import describe_settings, gpu_settings

__all__ = [
    "Device", "Gpu", "GpuProgram", "describe_gpu", "describe_settings", "emulates", "gpu_handles", "gpus", "machine",
    "named_devices", "processor_of", "visibility", "visible_devices", "whole_gpus", "gpu_settings",
]  # fmt: skip
