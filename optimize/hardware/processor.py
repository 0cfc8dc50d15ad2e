"""The machine that a figure was measured on, in one line."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import psutil

from optimize.hardware.devices import visible_devices

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
    devices = visible_devices()
    if not devices:
        return []
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(device.handle)) for device in devices]
