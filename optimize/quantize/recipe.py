"""A recipe of `conf/quantization/` as llm-compressor takes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optimize.config.schema import Recipe


def recipe_text(recipe: Recipe) -> str:
    """The recipe as llm-compressor reads it: YAML, of which JSON is a part."""
    if recipe.recipe is not None:
        return Path(recipe.recipe).read_text(encoding="utf-8")
    modifiers: dict[str, Any] = recipe.modifiers or {
        "QuantizationModifier": {"targets": ["Linear"], "scheme": recipe.scheme, "ignore": recipe.ignore}
    }
    return json.dumps({"quantization_stage": {"quantization_modifiers": modifiers}})


def recipe_hash(recipe: Recipe) -> str:
    """Hash of every field that determines the checkpoint, the contents of the recipe's file included.

    Flags are left out: they are vLLM's, and do not change the checkpoint.
    """
    fields = {k: v for k, v in asdict(recipe).items() if k not in ("flags", "recipe", "checkpoint")}
    return hashlib.sha256(json.dumps([fields, recipe_text(recipe)], sort_keys=True).encode()).hexdigest()
