"""The sampling defaults of a model, which vLLM puts into every request that does not set them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optimize.checkpoint.files import local_folder

_FILE = "generation_config.json"
_NEUTRAL = {
    "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0, "temperature": 1, "top_k": 50, "top_p": 1,
    "min_p": 0,
}  # fmt: skip
"""Fields that vLLM 0.25 to 0.32 takes over, and the values that transformers writes for no choice."""
_OF_SAMPLING = frozenset({"temperature", "top_k", "top_p", "min_p"})


def sampling_defaults(model: str) -> dict[str, Any]:
    """Field -> value, for those that differ from no choice; empty for a model that is not on this disk."""
    try:
        config = json.loads((local_folder(model) / _FILE).read_text(encoding="utf-8"))
    except Exception:  # the hub's errors are many
        return {}
    if not isinstance(config, Mapping):
        return {}
    return {name: config[name] for name, value in _NEUTRAL.items() if config.get(name) not in (None, value)}


def defaults_in_words(model: str) -> str:
    """What of its sampling defaults a model brings to greedy requests, in a sentence; empty where that is nothing."""
    defaults = sampling_defaults(model)
    penalties = {name: value for name, value in defaults.items() if name not in _OF_SAMPLING}
    sampling = {name: value for name, value in defaults.items() if name in _OF_SAMPLING}
    if not defaults:
        return ""
    applied = f"sets {_listed(penalties)}, which vLLM applies to every request, here as in deployment"
    aside = f"sets {_listed(sampling)}, which vLLM takes for clients that send no temperature; requests are greedy here"
    parts = [*([applied] if penalties else []), *([aside] if sampling else [])]
    return f"{_FILE} of the model {'; it '.join(parts)}; model.flags.generation_config=vllm leaves it out"


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())
