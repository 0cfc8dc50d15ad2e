"""Changes of a typed configuration, written as on the command line; composing one anew takes a quarter of a second."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import yaml

from optimize.config.compose import configuration
from optimize.config.schema import StudyConfig


@cache
def _composed(study: str) -> StudyConfig:
    return configuration([f"+study={study}"])


def changed(*overrides: str, study: str = "chat") -> StudyConfig:
    """A study's configuration with some keys changed.

    Args:
        overrides: `key=value`, the value in YAML; neither the schema's types nor its bounds are checked.
        study: The study.
    """
    config = copy.deepcopy(_composed(study))
    for override in overrides:
        key, _, text = override.partition("=")
        *path, last = key.split(".")
        parent: Any = config
        for name in path:
            parent = parent[name] if isinstance(parent, dict) else getattr(parent, name)
        if isinstance(parent, dict):
            parent[last] = yaml.safe_load(text)
        else:
            assert hasattr(parent, last), key
            setattr(parent, last, yaml.safe_load(text))
    return config
