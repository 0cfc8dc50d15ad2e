"""Search spaces of a made-up model with four recipes."""

from collections.abc import Mapping
from typing import Any

from optimize.config.schema import Model, Recipe
from optimize.search.space import SearchSpace, make_space

MODEL = Model("demo", "demo/model", {"max_model_len": 256})
RECIPES = {
    "published": Recipe("published"),
    "fp16": Recipe("fp16", dtype="float16"),
    "int8": Recipe("int8", scheme="W8A8", flags={"kv_cache_dtype": "fp8"}),
    "int4": Recipe("int4", dtype="bfloat16", scheme="W4A16"),
}
CHECKPOINTS = {name: f"cache/{name}" for name in RECIPES}


def range_of(low: int, high: int, **more: Any) -> dict[str, Any]:
    return {"_target_": "optuna.distributions.IntDistribution", "low": low, "high": high, **more}


SERVING: dict[str, Any] = {
    "quantization": ["published", "int8", "int4"],
    "batch_size": range_of(1, 256, log=True),
    "beam_size": [1, 2, 4],
    "workers": range_of(1, 2),
}


def space_of(
    nodes: Mapping[str, Any], baseline: Mapping[str, Any] | None = None, fixed: Recipe = RECIPES["published"]
) -> SearchSpace:
    return make_space(nodes, MODEL, RECIPES, fixed, baseline or {})
