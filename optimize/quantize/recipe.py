"""What a `conf/quantization/` recipe asks for, checked, and as llm-compressor takes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optimize.config.schema import Recipe


def is_made(recipe: Recipe) -> bool:
    """Whether there is something to make: else the model, or what the user has, is served."""
    return bool(recipe.scheme or recipe.modifiers or recipe.recipe)


def recipe_text(recipe: Recipe) -> str:
    """The recipe as llm-compressor reads it: YAML, of which JSON is a part."""
    if recipe.recipe is not None:
        return Path(recipe.recipe).read_text(encoding="utf-8")
    modifiers: dict[str, Any] = recipe.modifiers or {
        "QuantizationModifier": {"targets": ["Linear"], "scheme": recipe.scheme, "ignore": recipe.ignore}
    }
    return json.dumps({"quantization_stage": {"quantization_modifiers": modifiers}})


def recipe_hash(recipe: Recipe) -> str:
    """A hash of all that the recipe has to say on the checkpoint, the contents of its file included.

    Flags are left out: they are vLLM's, and change nothing in the checkpoint.
    """
    said = {k: v for k, v in asdict(recipe).items() if k not in ("flags", "recipe", "checkpoint")}
    return hashlib.sha256(json.dumps([said, recipe_text(recipe)], sort_keys=True).encode()).hexdigest()
