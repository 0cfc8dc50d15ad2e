"""From a `_target_` node to the object it names, with errors a person can act on."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from optimize.errors import ConfigError, OptimizeError, closest


def build(node: object, where: str, **offered: object) -> Any:
    """Build what a configuration node names.

    Args:
        node: Mapping with `_target_` (a dotted name) and its keyword arguments.
        where: The node's place in the configuration, for messages.
        offered: Further arguments, passed on only if the target takes them and the node does not set them.

    Raises:
        ConfigError: no or unknown target, unknown or unacceptable argument.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{where} must be a mapping with a _target_, got {node!r:.80}")
    target = _locate(node["_target_"], where)
    arguments = {str(k): v for k, v in node.items() if k != "_target_"}
    try:
        taken = inspect.signature(target).parameters
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}._target_={node['_target_']!r} is nothing that can be built: {error}") from error
    open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    for name in arguments:
        if name not in taken and not open_ended:
            raise ConfigError(f"{where}.{name} is not a setting of {node['_target_']}; {closest(name, taken)}")
    arguments = {k: v for k, v in offered.items() if k in taken} | arguments
    try:
        return target(**arguments)
    except OptimizeError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _locate(dotted: str, where: str) -> Any:
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}._target_={dotted!r} cannot be imported: {error}") from error
