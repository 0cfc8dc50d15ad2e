"""What a `conf/quantization/` recipe asks for, checked, and as llm-compressor takes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from optimize.errors import ConfigError
from optimize.schema import Recipe

_WAYS = ("scheme", "modifiers", "recipe", "checkpoint")


def check_recipes(recipes: Mapping[str, Recipe]) -> None:
    """Refuse recipes that say too much, or name what is not there.

    Raises:
        ConfigError: naming the field.
    """
    for recipe in recipes.values():
        where = f"recipes.{recipe.name}"
        given = [way for way in _WAYS if getattr(recipe, way)]
        if len(given) > 1:
            raise ConfigError(f"{where} gives {' and '.join(given)}: give one of {', '.join(_WAYS)}, or none")
        if recipe.calibration_samples < 0 or recipe.calibration_tokens < 1:
            raise ConfigError(
                f"{where}: calibration_samples must be at least 0 and calibration_tokens at least 1, got "
                f"{recipe.calibration_samples} and {recipe.calibration_tokens}"
            )
        if recipe.recipe is not None:
            _check_recipe_file(where, Path(recipe.recipe))
        if recipe.checkpoint is not None:
            _check_checkpoint(where, recipe.checkpoint)


def _check_recipe_file(where: str, path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{where}.recipe={path} does not exist: give the YAML file of an llm-compressor recipe")
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}.recipe={path} is no YAML: {error}") from error
    if not isinstance(stages, Mapping) or not stages:
        raise ConfigError(f"{where}.recipe={path} must map stages to modifiers, as llm-compressor's recipes do")


def _check_checkpoint(where: str, checkpoint: str) -> None:
    path = Path(checkpoint)
    looks_local = checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") != 1
    if path.is_dir() and not (path / "config.json").is_file():
        raise ConfigError(f"{where}.checkpoint={checkpoint} holds no config.json: give the folder of a checkpoint")
    if looks_local and not path.is_dir():
        raise ConfigError(f"{where}.checkpoint={checkpoint} is neither a folder nor a Hugging Face id: correct it")


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
