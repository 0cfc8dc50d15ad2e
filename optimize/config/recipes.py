"""What a quantization recipe may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from optimize.config.schema import Recipe
from optimize.errors import ConfigError

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
