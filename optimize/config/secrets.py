"""The secrets of a configuration: registered by value before anything is done with it, and its YAML without them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig, OmegaConf

from optimize.config.command_words import head_of
from optimize.config.locations import split_config_dirs
from optimize.redaction import (
    is_secret_name,
    masked,
    redact,
    register,
    register_credentials,
    register_environment,
    register_variable,
)

_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,}\s]+)")
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"]+")
_SHORT_SETTING = re.compile(r"[\w.-]{1,11}")
_OPEN = frozenset(
    {
        "address", "artifacts", "cache_dir", "checkpoint", "experiment", "folder", "host", "image", "load_curve",
        "name", "node_exporter", "output_dir", "path", "recipe", "storage_artifacts", "subset", "split", "tokenizer",
    }
)  # fmt: skip
"""Keys whose values name a place or a thing: they are no secrets, but for credentials in an address."""
_CHOICES = frozenset({"choices", "low", "high", "value"})
"""Keys below a knob's own: a choice is a secret by the name of its knob."""


def register_words(words: Sequence[str]) -> None:
    """Register the secrets of the environment and of a command line, so that no message about it shows them."""
    register_environment()
    for word in words:
        key, _, value = word.partition("=")
        _register(key.lstrip("+~"), value.strip("'\""))


def register_node(node: DictConfig) -> None:
    """Register the secrets of a composed configuration, those of its files included."""
    for key, value in _leaves(OmegaConf.to_container(node, resolve=False), ""):
        _register(key, value)


def as_yaml(node: DictConfig, words: Sequence[str]) -> str:
    """The configuration as composed, without secrets, headed by the command's words, which a report repeats."""
    folders, others = split_config_dirs(words)
    overrides = [_shown(word) for word in others if not word.startswith("-")]
    repeated = [*overrides, *(f"--config-dir={path}" for path in folders)]
    shown = OmegaConf.create(masked(OmegaConf.to_container(node, resolve=False)))
    return head_of([redact(word) for word in repeated]) + OmegaConf.to_yaml(shown)


def _shown(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{key}{equals}{masked(value, key)}" if equals else word


def _leaves(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Keys and texts of a tree; a text that is JSON is a tree of its own."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, key if name in _CHOICES else f"{key}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str):
        yield key, value
        if value.lstrip().startswith("{"):
            yield from _leaves(_from_json(value), key)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _register(key: str, value: str) -> None:
    secret = is_secret_name(key)
    for name in _VARIABLE.findall(value):
        if (text := os.environ.get(name)) is not None:
            _register_variable(key, name, text)
    if secret and not _VARIABLE.search(value):
        register(value)
    if key.endswith("key_env") and (text := os.environ.get(value)) is not None:
        register(text, f"${value}")
    for address in [value, *_ADDRESS.findall(value)]:
        register_credentials(address)


def _register_variable(key: str, name: str, value: str) -> None:
    """Register a variable that the configuration names, unless it is a setting by its place or by its shape."""
    secret = is_secret_name(key) or is_secret_name(name)
    open_key = key.rpartition(".")[2] in _OPEN and not secret
    if open_key or (not secret and _SHORT_SETTING.fullmatch(value)):
        register_credentials(value)
    else:
        register_variable(name, value)
