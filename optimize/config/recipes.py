"""Checks of quantization recipes and of the files that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from optimize.checkpoint import quantized_format, unreadable_format
from optimize.config.schema import Recipe
from optimize.errors import ConfigError

_WAYS = ("scheme", "modifiers", "recipe", "checkpoint")
_FLAG = "quantization"
_NOT_ON_CUDA = "W4A8"


def is_made(recipe: Recipe) -> bool:
    """Whether the recipe makes a checkpoint; otherwise the model, or a checkpoint of the user's, is served."""
    return bool(recipe.scheme or recipe.modifiers or recipe.recipe)


def converts(recipe: Recipe) -> bool:
    """Whether vLLM quantizes the model while it loads it."""
    return bool(recipe.flags.get(_FLAG))


def check_on_cuda(recipes: Sequence[Recipe]) -> None:
    """Refuse recipes that vLLM's CUDA build does not serve: of 4-bit weights with 8-bit integer activations it refuses
    some, and answers with others' garbage.

    Raises:
        ConfigError: naming the recipe, and those that are left.
    """
    names = [recipe.name for recipe in recipes if recipe.scheme == _NOT_ON_CUDA]
    if names:
        others = ",".join(recipe.name for recipe in recipes if recipe.name not in names)
        raise ConfigError(
            f"{names[0]} ({_NOT_ON_CUDA}) has no kernel on GPUs: leave it out, 'search_space.quantization.choices="
            f"[{others}]'; int4 has 4-bit weights too"
        )


def check_readable(models: Iterable[str]) -> None:
    """Refuse checkpoints whose weights nobody could load as what they are.

    Args:
        models: Folders, or Hugging Face ids, which vLLM checks once it has them.

    Raises:
        ConfigError: naming the format and the remedy.
    """
    for model in models:
        if reason := unreadable_format(model):
            raise ConfigError(f"model.path={model} {reason}")


def check_unquantized(model: str, recipes: Sequence[Recipe]) -> None:
    """Refuse recipes that would quantize a model once more: llm-compressor takes its stored integers for weights.

    Args:
        model: Folder or Hugging Face id; one that is not on this disk is checked when its checkpoint is made.
        recipes: All that may be asked for.

    Raises:
        ConfigError: naming the recipes, the model's format and the remedy.
    """
    names = [recipe.name for recipe in recipes if is_made(recipe) or converts(recipe)]
    if names and (kind := quantized_format(model)):
        served = "'search_space.quantization=null'" if len(recipes) > 1 else "quantization=published"
        raise ConfigError(
            f"model.path={model} is quantized already ({kind}), and {', '.join(names)} would quantize it again: "
            f"serve it as it is, {served}, or give the model that it was made from"
        )


def check_source(recipe: Recipe) -> None:
    """Refuse a recipe that says in more than one way which checkpoint it is.

    Raises:
        ConfigError: naming the fields.
    """
    ways = [way for way in _WAYS if getattr(recipe, way)]
    if len(ways) > 1:
        raise ConfigError(f"recipes.{recipe.name} gives {' and '.join(ways)}: give one of {', '.join(_WAYS)}, or none")


def check_files(recipes: Iterable[Recipe]) -> None:
    """Refuse recipes that name files which do not exist, or are of another kind.

    Raises:
        ConfigError: naming the field.
    """
    for recipe in recipes:
        if recipe.recipe is not None:
            _check_recipe_file(f"recipes.{recipe.name}", Path(recipe.recipe))
        if recipe.checkpoint is not None:
            _check_checkpoint(f"recipes.{recipe.name}", recipe.checkpoint)


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
