"""Environment variables in a configuration: one mapping below `env` becomes a knob for each of its names."""

from __future__ import annotations

import dataclasses
from typing import Any

from optimize.config.grammar import variable
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError

_ENV = "env"


def with_variables(config: StudyConfig) -> StudyConfig:
    """The configuration with `search_space.env.NAME` as the knob "env.NAME", and `hardware.env` in the engine's.

    Raises:
        ConfigError: a name that no shell could set, or no mapping of names.
    """
    engine = config.engine
    if isinstance(engine, dict) and isinstance(engine.get(_ENV), dict):
        engine = {**engine, _ENV: {**config.hardware.env, **engine[_ENV]}}
    return dataclasses.replace(
        config,
        engine=engine,
        search_space=_flat("search_space", config.search_space),
        baseline=_flat("baseline", config.baseline),
        at=_flat("at", config.at),
    )


def _flat(holder: str, nodes: dict[str, Any]) -> dict[str, Any]:
    variables = nodes.get(_ENV)
    if variables is None:
        return {name: node for name, node in nodes.items() if name != _ENV}
    if not isinstance(variables, dict):
        raise ConfigError(f"{holder}.{_ENV} must map names of environment variables to values, got {variables!r}")
    flat = {f"{_ENV}.{variable(str(name))}": node for name, node in variables.items()}
    return {name: node for name, node in nodes.items() if name != _ENV} | flat
