"""The folder of a model that is made on the spot, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optimize.config.schema import Model
from optimize.errors import ConfigError
from optimize.model import packaged_weights, random_weights


def materialized(model: Model, cache_folder: Path, say: Callable[[str], None]) -> Model:
    """The model with `path` set to its folder, which is made unless the cache holds it complete.

    Args:
        model: As configured; returned as it is where it is a folder or a Hugging Face id already.
        cache_folder: Root of the cache.
        say: Called with a line for people when something is made.

    Raises:
        ConfigError: a model that cannot be made.
    """
    if model.random is not None and model.package is not None:
        raise ConfigError(f"model {model.name} gives both random and package: give one of them, or neither")
    if model.package is not None:
        return packaged_weights.materialized(model, cache_folder, say)
    return random_weights.materialized(model, cache_folder, say)
