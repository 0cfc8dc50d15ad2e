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
answer = {"server": 0, "unavailable": None}
if start == "warm":
    answer = {"server": launcher._fork_client.pid, "unavailable": launcher._fork_client.unavailable_reason()}
flags = {"dtype": "float16", "enforce_eager": True, "max_model_len": 256, "kv_cache_memory_bytes": 1 << 28, **flags}
try:
    launcher.launch(EngineConfig("demo/model", "fp16", tuple(flags.items())), Path(log))
except Exception as error:
    answer["error"] = str(error)
launcher.close()
print(json.dumps(answer))
"""


def engines_of(log: Path) -> set[int]:
    """Processes of engines and workers that a log names, the servers left out."""
    return {int(pid) for pid in re.findall(r"\((?:EngineCore|Worker)\S* pid=(\d+)\)", log.read_text(encoding="utf-8"))}


def test_an_engine_is_forked_and_nothing_before_it_touches_cuda(rig: Rig) -> None:
    log = rig.scratch / "engine.log"
    answer = rig.run(LAUNCH, str(log), "warm", {}, {})
    assert answer["unavailable"] is None
    assert NO_GPU in answer["error"]
    assert rig.callers() and rig.callers() <= engines_of(log)


def test_with_helpers_of_humming_nothing_could_be_forked(rig: Rig) -> None:
    answer = rig.run(LAUNCH, str(rig.scratch / "engine.log"), "warm", {}, {"HUMMING_DISABLE_PARALLEL_BUILD": "0"})
    assert "importing vLLM started threads" in answer["unavailable"]


def test_tensor_parallelism_touches_cuda_in_its_server_and_comes_as_far(rig: Rig) -> None:
    """Composing the configuration does, where the fork server must not be: a driver that answers would be of no use.

    The driver starts here, as a real one does: engine and workers are then spawned, and import vLLM anew.
    """
    log = rig.scratch / "engine.log"
    variables = {"NVML_STUB_GPUS": "2", "CUDA_STUB_INIT": "1"}
    answer = rig.run(LAUNCH, str(log), "warm", {"tensor_parallel_size": 2}, {}, **variables)
    assert answer["unavailable"] is None
    assert NO_GPU in answer["error"]
    assert answer["server"] not in rig.callers() and not rig.callers() <= engines_of(log)


SPAWN = """
import ctypes, importlib, json
from optimize.engine.vllm_adaptation import _ask_the_driver

system_utils = importlib.import_module("vllm.utils.system_utils")
_ask_the_driver(system_utils)
methods = [system_utils.get_mp_context().get_start_method()]
ctypes.CDLL("libcuda.so.1").cuInit(0)
print(json.dumps([*methods, system_utils.get_mp_context().get_start_method()]))
"""


def test_vllm_forks_its_processes_until_the_driver_is_initialized(rig: Rig) -> None:
    assert rig.run(SPAWN, CUDA_STUB_INIT="1") == ["fork", "spawn"]
    assert rig.run(SPAWN, CUDA_STUB_INIT="0") == ["fork", "fork"]
