"""Architectures other than Llama, made on the spot: vLLM takes them, or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.config.compose import configuration
from optimize.config.schema import Model, RandomWeights
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher
from optimize.model.random_weights import materialized
from optimize.model.write_weights import write_model
from optimize.search.space import make_space
from tests.live.engines import ROOT
from tests.shapes import SHAPES

pytestmark = pytest.mark.live
FLAGS = {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 27, "max_model_len": 256}


def engines_of(kind: str, cache: Path) -> dict[str, EngineConfig]:
    """Recipe -> engine of a model with random weights."""
    model = Model(kind, "", FLAGS, RandomWeights(SHAPES[kind], str(ROOT / "demo/model")))
    made = materialized(model, cache, lambda _: None, write_model)
    config = configuration(["+study=chat"])
    space = make_space({"quantization": ["published", "fp16"]}, made, config.recipes, config.quantization, {})
    return space.plain_engines({"published": made.path, "fp16": made.path})


@pytest.mark.parametrize("kind", SHAPES)
def test_vllm_takes_an_architecture_and_refuses_gemma_in_float16_in_its_own_words(
    kind: str, live_vllm: VllmLauncher, tmp_path: Path
) -> None:
    refusals = {name: str(reason) for name, reason in live_vllm.refusals(engines_of(kind, tmp_path)).items()}
    unstable = (
        "vLLM cannot serve it here: ValidationError: The model type 'gemma3_text' does not support float16. Reason: "
        "Numerical instability. Please use bfloat16 or float32 instead."
    )
    assert refusals == ({"fp16": unstable} if kind == "gemma3" else {})
