"""What a process that is thrown away learns of vLLM before any engine starts, with modules that stand for vLLM's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from optimize.engine import kernel_check


class Groups:
    """vLLM's process groups: a layer asks for its rank, and fails where nobody has joined one."""

    def __init__(self) -> None:
        self.joined: list[str] = []

    def init_distributed_environment(self, size: int, rank: int, *, backend: str, **_: object) -> None:
        self.joined.append(backend)

    def initialize_model_parallel(self) -> None:
        assert self.joined


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Groups:
    """vLLM on a GPU that has a kernel for every layer but those of 3 inputs."""
    groups = Groups()

    def layer(inputs: int, outputs: int, **_: object) -> object:
        assert groups.joined, "tensor model parallel group is not initialized"
        if inputs == 3:
            raise ValueError("Failed to find a kernel that can implement the\n WNA16 linear layer.")
        return object()

    modules = {
        "vllm.distributed": groups,
        "vllm.model_executor.layers.linear": SimpleNamespace(ReplicatedLinear=layer),
        "vllm.platforms": SimpleNamespace(current_platform=SimpleNamespace(is_cpu=lambda: False)),
    }
    for name, content in modules.items():
        module: Any = ModuleType(name)
        for attribute in (a for a in dir(content) if not a.startswith("_")):
            setattr(module, attribute, getattr(content, attribute))
        monkeypatch.setitem(sys.modules, name, module)
    return groups


CONFIG = SimpleNamespace(model_config=SimpleNamespace(dtype=None), quant_config=object())


def test_layers_on_a_gpu_are_built_within_a_group(groups: Groups) -> None:
    """Without one, every layer ended in an assertion, which says nothing of kernels: nothing was ever refused."""
    kernel_check._build_layers(CONFIG, {"mlp": (8, 8)})
    assert groups.joined == ["gloo"]


def test_a_layer_without_a_kernel_on_a_gpu_is_a_refusal(groups: Groups) -> None:
    with pytest.raises(ValueError, match="Failed to find a kernel"):
        kernel_check._build_layers(CONFIG, {"mlp": (8, 8), "down": (3, 8)})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("No CUDA GPUs are available", None),
        ("CUDA error: an illegal memory access was encountered", None),
        (
            "NVFP4 needs a GPU of\n compute capability 10.0",
            "RuntimeError: NVFP4 needs a GPU of compute capability 10.0",
        ),
    ],
)
def test_trouble_of_a_gpu_refuses_no_checkpoint(
    message: str, reason: str | None, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as what vLLM refuses here, so that a recipe was not tried in the whole study."""

    def compose(_: object) -> object:
        raise RuntimeError(message)

    modules: dict[str, Any] = {name: ModuleType(name) for name in ("vllm.config", "vllm.engine.arg_utils")}
    modules["vllm.config"].set_current_vllm_config = None
    modules["vllm.engine.arg_utils"].AsyncEngineArgs = SimpleNamespace(from_cli_args=compose)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(kernel_check, "parsed", lambda arguments: arguments)
    assert kernel_check.refusal(["model"]) == reason


def test_a_check_that_takes_too_long_ends_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What vLLM had started to look at a model's class lived on, and left its folder behind."""
    started = tmp_path / "pid"

    def check(_: list[str]) -> None:
        helper = subprocess.Popen(["sleep", "600"])
        started.write_text(str(helper.pid))
        helper.wait()

    monkeypatch.setattr(kernel_check, "refusal", check)
    monkeypatch.setattr(kernel_check, "_TIMEOUT_S", 2.0)
    while not started.exists():  # where the fork has not come so far in time
        assert kernel_check.forked_refusal(["model"], dict(os.environ)) is None
    while (state := _state_of(int(started.read_text()))) not in ("", "Z"):
        assert state != "S", "the helper still sleeps"
        time.sleep(0.01)


def _state_of(pid: int) -> str:
    """The kernel's letter for what a process does; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
