"""Composing the configuration from `conf/` and the command line with Hydra, and typing it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from optimize.config import schema
from optimize.errors import ConfigError, closest

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration with these overrides. Hydra's own command line takes twice as long: it composes first to see
    whether it is to run once or many times.
    """
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides))


def from_hydra() -> DictConfig | None:
    """The configuration by Hydra's command line; None where that only answered a question."""
    found: list[DictConfig] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def compose(node: DictConfig) -> None:
        found.append(node)

    compose()
    return found[0] if found else None


def to_typed(node: DictConfig) -> schema.StudyConfig:
    """The configuration as dataclasses, every interpolation resolved.

    Raises:
        ConfigError: a value that must be given is missing.
    """
    missing = OmegaConf.missing_keys(node)
    if missing:
        raise ConfigError(f"{sorted(missing)[0]} is not set: give it, e.g. {sorted(missing)[0]}=...")
    typed = OmegaConf.to_object(node)
    assert isinstance(typed, schema.StudyConfig)
    return typed


def explain(error: Exception) -> str:
    """One line for an error of Hydra or OmegaConf, naming the closest valid key or choice."""
    text = " ".join(str(part) for part in (error, error.__cause__) if part)
    unknown_key = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    if unknown_key:
        return _explain_key(error, text, unknown_key.group(1))
    unknown_group = re.search(r"Could not override '([^']+)'", text)
    if unknown_group:
        name = unknown_group.group(1)
        return f"no such key or group {name!r}; {closest(name, [*_fields(), *_groups()])}"
    unknown_choice = re.search(r"Could not (?:find|load) '([^'/]+)/([^']+)'", text)
    if unknown_choice:
        group, choice = unknown_choice.groups()
        return f"{group} has no choice {choice!r}; {closest(choice, [p.stem for p in (CONF / group).glob('*.yaml')])}"
    return text


def _explain_key(error: Exception, text: str, key: str) -> str:
    full = re.search(r"full_key: (\S+)", text)
    parent = getattr(error.__cause__ or error, "parent_node", None)
    valid = [str(k) for k in parent] if isinstance(parent, DictConfig) else _fields()
    return f"unknown key {full.group(1) if full else key!r} in the configuration; {closest(key, valid)}"


def _fields() -> list[str]:
    return [f.name for f in dataclasses.fields(schema.StudyConfig)]


def _groups() -> list[str]:
    return [p.name for p in CONF.iterdir() if p.is_dir()]


def configuration(overrides: Sequence[str]) -> schema.StudyConfig:
    """The typed configuration that `python -m optimize` would have with these overrides."""
    schema.register()
    return to_typed(composed(overrides))
