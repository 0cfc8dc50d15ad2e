"""A look at GPUs that a script stands for: one line for what they cannot compute and for who else uses them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from optimize.config.schema import Recipe
from optimize.driver.gpu_look import gpu_notes
from optimize.hardware import Gpu, GpuProgram, describe_gpu

GIB = 1 << 30
PUBLISHED, INT8 = Recipe("published"), Recipe("int8", "bfloat16", "W8A8")
FP8, INT4 = Recipe("fp8", "auto", "FP8_DYNAMIC"), Recipe("int4", "auto", "W4A16")
SMOOTH = Recipe("smooth", "float16", modifiers={"SmoothQuantModifier": {}, "QuantizationModifier": {"scheme": "W8A8"}})
FP8_TENSOR = Recipe("fp8_tensor", flags={"quantization": "fp8_per_tensor"})
NOBODY = 4_000_001


class ScriptedNvml:
    """NVML of one GPU; what it is not given, it refuses as a driver does that does not know it.

    Args:
        answers: Name of a function without its beginning nvmlDeviceGet -> what it returns.
        names: Process -> its program's path.
    """

    class NVMLError(Exception):
        """As pynvml's."""

    class NVMLLibraryMismatchError(Exception):
        """As pynvml's, which is none of its other errors."""

    def __init__(self, answers: Mapping[str, Any], names: Mapping[int, str] = {}) -> None:
        self._answers, self._names = {"Name": "Tesla T4", **answers}, names

    def __getattr__(self, name: str) -> Any:
        def answer(handle: object) -> Any:
            try:
                return self._answers[name.removeprefix("nvmlDeviceGet")]
            except KeyError:
                raise self.NVMLError("not supported") from None

        return answer

    def nvmlSystemGetProcessName(self, pid: int) -> str:  # noqa: N802
        if pid not in self._names:
            raise self.NVMLError("not found")
        return self._names[pid]


def process(pid: int, memory: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


class OlderNvml(ScriptedNvml):
    """NVML of a driver that lists no processes in the form that pynvml asks for."""

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> Any:  # noqa: N802
        raise self.NVMLLibraryMismatchError("unversioned function")


def test_an_older_driver_tells_what_it_can() -> None:
    gpu = describe_gpu(OlderNvml({"CudaComputeCapability": (9, 0)}), 0, None)
    assert (gpu.name, gpu.capability, gpu.programs) == ("Tesla T4", (9, 0), ())


def test_a_gpu_is_described_with_its_programs() -> None:
    nvml = ScriptedNvml(
        {
            "CudaComputeCapability": (8, 9), "MemoryInfo": SimpleNamespace(total=24 * GIB, free=20 * GIB),
            "ComputeRunningProcesses": [process(os.getpid(), 3 * GIB), process(NOBODY, None)],
            "GraphicsRunningProcesses": [process(os.getpid(), 3 * GIB), process(NOBODY + 1, GIB)],
        },
        {NOBODY: "/usr/bin/elsewhere"},
    )  # fmt: skip
    own = psutil.Process().name()
    assert describe_gpu(nvml, 1, None) == Gpu(
        1, "Tesla T4", (8, 9), 24 * GIB, 20 * GIB,
        (GpuProgram(own, os.getpid(), 3 * GIB), GpuProgram("elsewhere", NOBODY, None), GpuProgram("", NOBODY + 1, GIB)),
    )  # fmt: skip


def test_a_gpu_that_tells_nothing_but_its_name_is_no_obstacle() -> None:
    gpu = describe_gpu(ScriptedNvml({}), 0, None)
    assert gpu == Gpu(0, "Tesla T4") and notes([gpu], PUBLISHED, INT8) == []


def notes(gpus: Sequence[Gpu], *recipes: Recipe, flags: Mapping[str, Any] | None = None) -> list[str]:
    config = SimpleNamespace(model=SimpleNamespace(flags=flags or {}))
    launcher = SimpleNamespace(flags={})
    plan: Any = SimpleNamespace(
        space=SimpleNamespace(recipes_needed=lambda: list(recipes)), config=config, launcher=launcher
    )
    return list(gpu_notes(plan, gpus))


@pytest.mark.parametrize(
    ("capability", "recipes", "text", "choices"),
    [
        ((7, 5), [PUBLISHED, INT8, INT4], "bfloat16 (from 8.0 on; int8)", "published,int4"),
        ((8, 6), [PUBLISHED, INT8, FP8], "FP8_DYNAMIC (from 8.9 on; fp8)", "published,int8"),
        ((7, 0), [PUBLISHED, INT8, FP8, SMOOTH], "bfloat16 (from 8.0 on; int8) and W8A8 (from 7.5 on; int8, smooth) "
         "and FP8_DYNAMIC (from 8.9 on; fp8)", "published"),
        ((8, 6), [PUBLISHED, FP8_TENSOR], "fp8_per_tensor (from 8.9 on; fp8_tensor)", "published"),
        ((7, 5), [Recipe("bf16", "bfloat16")], "bfloat16 (from 8.0 on; bf16)", "published,fp16"),
    ],
)  # fmt: skip
def test_a_format_without_instructions_is_named_with_its_recipes_and_what_is_left(
    capability: tuple[int, int], recipes: Sequence[Recipe], text: str, choices: str
) -> None:
    (line,) = notes([Gpu(0, "G", capability), Gpu(1, "G", capability)], *recipes)
    assert f"has no instructions for {text}: vLLM refuses or emulates that; " in line
    assert line.endswith(f"'search_space.quantization.choices=[{choices}]'") and line.startswith("GPU 0 (G, compute")


def test_a_gpu_that_computes_everything_is_not_mentioned() -> None:
    assert notes([Gpu(0, "H100", (9, 0), 80 * GIB, 79 * GIB)], PUBLISHED, INT8, FP8, SMOOTH) == []


def test_a_flag_sets_the_type_of_all_recipes() -> None:
    assert notes([Gpu(0, "T4", (7, 5))], PUBLISHED) == []  # vLLM takes float16 there
    assert len(notes([Gpu(0, "T4", (7, 5))], PUBLISHED, flags={"dtype": "bfloat16"})) == 1


def test_memory_that_an_engine_asks_for_and_others_hold_is_named_with_them() -> None:
    programs = [GpuProgram("Xorg", 77, GIB // 4), GpuProgram("python", 1234, 30 * GIB), GpuProgram("", 5, None)]
    gpu = Gpu(1, "H100", (9, 0), 80 * GIB, 48 * GIB, programs)
    (line,) = notes([gpu], PUBLISHED)
    assert line == (
        "32.0 GiB of 80.0 GiB of GPU 1 (H100) are in use by python (pid 1234, 30.0 GiB), Xorg (pid 77, 0.2 GiB), "
        "a program (pid 5), and vLLM asks for 92 % of it: end the other programs, or set "
        "+engine.flags.gpu_memory_utilization=0.58"
    )
    (line,) = notes([gpu], PUBLISHED, flags={"gpu_memory_utilization": 0.5})
    assert line.endswith("(pid 5): what they compute slows the engines, so end them, or let them end")


def test_a_desktop_that_shows_its_windows_is_not_mentioned() -> None:
    gpu = Gpu(0, "H100", (9, 0), 80 * GIB, 79 * GIB, [GpuProgram("Xorg", 77, GIB // 4)])
    assert notes([gpu], PUBLISHED) == []
