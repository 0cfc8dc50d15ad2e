"""The baseline is what vLLM does by itself, asked of vLLM with a bfloat16 checkpoint."""

from __future__ import annotations

import dataclasses

import pytest

from optimize.config.compose import configuration
from optimize.config.schema import Model, StudyConfig
from optimize.engine.flags import to_arguments
from optimize.model.random_weights import materialized
from optimize.model.write_weights import write_model
from optimize.search.space import make_space
from tests.live.engines import LiveEngines

pytestmark = pytest.mark.live
SMALL = [
    "model=llama_1b_random", "model.random.config.hidden_size=64",
    "model.random.config.intermediate_size=64", "model.random.config.num_hidden_layers=1",
    "model.random.config.num_attention_heads=2", "model.random.config.num_key_value_heads=2",
    "model.random.config.head_dim=32", "model.random.config.vocab_size=512",
    "model.random.config.max_position_embeddings=256",
]  # fmt: skip
QUICK = (("enforce_eager", True), ("kv_cache_memory_bytes", 1 << 27))
"""What makes the start quick; neither decides the data type."""


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    return configuration(["+study=chat", *SMALL])


@pytest.fixture(scope="module")
def model(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Model:
    bfloat16 = materialized(config.model, tmp_path_factory.mktemp("cache"), lambda _: None, write_model)
    return dataclasses.replace(bfloat16, flags={})


@pytest.mark.parametrize(("recipe", "dtype"), [("published", "bfloat16"), ("fp16", "float16")])
def test_the_baseline_of_a_bfloat16_checkpoint_is_bfloat16_as_vllm_resolves_it(
    recipe: str, dtype: str, config: StudyConfig, model: Model, live_engines: LiveEngines
) -> None:
    space = make_space(config.search_space, model, config.recipes, config.quantization, {})
    engine = space.vllm_defaults({recipe: model.path}, {"quantization": recipe}).engine
    assert to_arguments(engine.flags) == ([] if recipe == "published" else ["--dtype=float16"])
    quick = dataclasses.replace(engine, flags=(*engine.flags, *QUICK))
    with live_engines.launch(quick) as live:
        assert live.effective(["dtype", "enforce_eager"]) == {"dtype": dtype, "enforce_eager": True}
