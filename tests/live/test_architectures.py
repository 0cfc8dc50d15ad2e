"""Architectures other than Llama, made on the spot: quantized, served and measured, or refused with vLLM's reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.config.compose import configuration
from optimize.config.measuring import Load
from optimize.config.schema import Model, RandomWeights, StudyConfig
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import EngineFailure, FailureKind
from optimize.hardware import machine
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.model.random_weights import materialized
from optimize.model.write_weights import write_model
from optimize.quantize.checkpoints import _job, checkpoint_folder, make_checkpoints
from optimize.search.space import make_space
from optimize.workload.workload import Workload
from tests.live.engines import ROOT, LiveEngines
from tests.shapes import SHAPES

pytestmark = pytest.mark.live
FLAGS = {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 25, "max_model_len": 256, "max_num_seqs": 4}
QUANTIZED = {"qwen3": "int8" if "AVX2" in machine() else "int4", "gemma3": "int8", "opt": "int8", "qwen3_moe": "int4"}
"""Architecture -> the recipe of its quantized checkpoint; vLLM's library for AVX2 has no kernel for four bits."""
EXPERTS, NO_KERNEL = "qwen3_moe", "No WNA16 MoE backend supports"
"""The mixture of experts, and why vLLM's CPU build refuses it in four bits on a processor without AMX."""
LOAD = Load(
    arrivals=None, warmup_s=0.1, warmup_requests=4, warmup_max_s=60, window_min_s=0.3, window_requests=8,
    window_max_s=60, drain_max_s=60,
)  # fmt: skip
PROMPTS = Workload("prompts", [f"the old man sees the dog {n}" for n in range(16)], [], 8)


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    return configuration(["+study=chat"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """One of each architecture."""
    cache, models = tmp_path_factory.mktemp("cache"), {}
    for kind, shape in SHAPES.items():
        model = Model(kind, "", FLAGS, RandomWeights(shape, str(ROOT / "demo/model")))
        models[kind] = materialized(model, cache, lambda _: None, write_model)
    return models


@pytest.fixture(scope="module")
def quantized(models: dict[str, Model], config: StudyConfig) -> dict[str, Model]:
    """The models, after one child process has made the quantized checkpoints of all of them."""
    cache, jobs = cache_of(models["opt"]), []
    for kind, model in models.items():
        recipe = config.recipes[QUANTIZED[kind]]
        jobs.append(_job(model, recipe, checkpoint_folder(model, recipe, cache), None))
    with (cache / "checkpoints/compress.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "optimize.quantize.compress"]
        subprocess.run(command, input=json.dumps(jobs), text=True, stdout=log, stderr=log, check=True)
    return models


@pytest.fixture(scope="module")
def clients() -> Iterator[ClientPool]:
    with ClientPool() as pool:
        yield pool


def cache_of(model: Model) -> Path:
    return Path(model.path).parents[1]


def engines_of(config: StudyConfig, model: Model, *recipes: str) -> dict[str, EngineConfig]:
    """Recipe -> its engine, with no flags but the model's and the recipe's; the cache holds its checkpoint."""
    space = make_space({"quantization": list(recipes)}, model, config.recipes, config.quantization, {})
    checkpoints, broken = make_checkpoints(model, space.recipes_needed(), cache_of(model), pytest.fail)
    assert broken == {}
    return space.plain_engines(checkpoints)


@pytest.mark.parametrize("kind", SHAPES)
def test_vllm_takes_an_architecture_and_refuses_gemma_in_float16_in_its_own_words(
    kind: str, models: dict[str, Model], config: StudyConfig, live_vllm: VllmLauncher
) -> None:
    engines = engines_of(config, models[kind], "published", "fp16")
    refusals = {name: str(reason) for name, reason in live_vllm.refusals(engines).items()}
    unstable = (
        "vLLM cannot serve it here: ValidationError: The model type 'gemma3_text' does not support float16. Reason: "
        "Numerical instability. Please use bfloat16 or float32 instead."
    )
    assert refusals == ({"fp16": unstable} if kind == "gemma3" else {})


def measure(engines: LiveEngines, clients: ClientPool, engine_config: EngineConfig) -> None:
    """Measure an engine of its own: it answers, and its memory holds its checkpoint."""
    traffic = Traffic(PROMPTS, RequestConfig(), ClosedLoop(users=4), LOAD)
    with engines.launch(engine_config) as engine:
        result, memory = run_load(clients, engine, traffic), engine.memory()
    assert sum(record.error is None for record in result.records) >= LOAD.window_requests
    assert memory is not None and memory.kv_block_bytes > 0
    assert 0.99 * memory.checkpoint_bytes < memory.weights_bytes < 3 * memory.checkpoint_bytes


@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind != EXPERTS])
def test_an_architecture_is_quantized_served_and_measured(
    kind: str, quantized: dict[str, Model], config: StudyConfig, live_engines: LiveEngines, clients: ClientPool
) -> None:
    recipe = QUANTIZED[kind]
    measure(live_engines, clients, engines_of(config, quantized[kind], recipe)[recipe])


def test_experts_are_served_as_published_and_refused_where_vllm_has_no_kernel_for_them(
    quantized: dict[str, Model], config: StudyConfig, live_engines: LiveEngines, clients: ClientPool
) -> None:
    engines = engines_of(config, quantized[EXPERTS], "published", QUANTIZED[EXPERTS])
    measure(live_engines, clients, engines["published"])
    try:
        measure(live_engines, clients, engines[QUANTIZED[EXPERTS]])  # where the processor has AMX, or on a GPU
    except EngineFailure as refusal:
        assert refusal.kind is FailureKind.REFUSED
        assert NO_KERNEL in str(refusal) and "Traceback" not in str(refusal)
