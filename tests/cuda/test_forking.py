"""CUDA engines are forked, and CUDA is initialized in the engine's own process alone: here, up to its refusal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cuda.conftest import Rig

pytestmark = [pytest.mark.cuda, pytest.mark.timeout(900)]
NO_GPU = "No CUDA GPUs are available"
LAUNCH = """
import json, sys
from pathlib import Path
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher

log, start, flags, env = json.loads(sys.argv[1])
launcher = VllmLauncher(start=start, start_timeout_s=300, env=env)
launcher.prepare()
said = {"server": 0, "unavailable": None}
if start == "warm":
    said = {"server": launcher._fork_client.pid, "unavailable": launcher._fork_client.unavailable_reason()}
flags = {"dtype": "float16", "enforce_eager": True, "max_model_len": 256, "kv_cache_memory_bytes": 1 << 28, **flags}
try:
    launcher.launch(EngineConfig("demo/model", "fp16", tuple(flags.items())), Path(log))
except Exception as error:
    said["error"] = str(error)
launcher.close()
print(json.dumps(said))
"""


def engines_of(log: Path) -> set[int]:
    """Processes of engines and workers that a log names, the servers left out."""
    return {int(pid) for pid in re.findall(r"\((?:EngineCore|Worker)\S* pid=(\d+)\)", log.read_text(encoding="utf-8"))}


def test_an_engine_is_forked_and_nothing_before_it_touches_cuda(rig: Rig) -> None:
    log = rig.scratch / "engine.log"
    said = rig.run(LAUNCH, str(log), "warm", {}, {})
    assert said["unavailable"] is None
    assert NO_GPU in said["error"]
    assert rig.callers() and rig.callers() <= engines_of(log)


def test_with_helpers_of_humming_nothing_could_be_forked(rig: Rig) -> None:
    said = rig.run(LAUNCH, str(rig.scratch / "engine.log"), "warm", {}, {"HUMMING_DISABLE_PARALLEL_BUILD": "0"})
    assert "importing vLLM started threads" in said["unavailable"]


@pytest.mark.parametrize("start", ["warm", "cold"])
def test_tensor_parallelism_comes_as_far_as_one_gpu(rig: Rig, start: str) -> None:
    log = rig.scratch / "engine.log"
    said = rig.run(LAUNCH, str(log), start, {"tensor_parallel_size": 2}, {}, NVML_STUB_GPUS="2")
    assert said["unavailable"] is None
    assert NO_GPU in said["error"]
    assert said["server"] not in rig.callers()
