"""Builds the object that a `_target_` node names, with errors that a user can act on."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from optimize.errors import ConfigError, OptimizeError, closest

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def build(node: object, where: str, **defaults: object) -> Any:
    """Build the object that a node of the configuration names.

    Args:
        node: Mapping with `_target_` (a dotted name) and its keyword arguments.
        where: The node's place in the configuration, for messages.
        defaults: Arguments for targets that take them, where the node does not set them.

    Raises:
        ConfigError: a missing or unknown target, an unknown argument, or one that the target rejects.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{where} must be a mapping with a _target_, got {node!r:.80}")
    target = _locate(node["_target_"], where)
    arguments = {str(k): v for k, v in node.items() if k != "_target_"}
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}._target_={node['_target_']!r} cannot be built: {error}") from error
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if name not in parameters and not takes_any:
            raise ConfigError(f"{where}.{name} is not a setting of {node['_target_']}; {closest(name, parameters)}")
    for name, hint in _hints(target).items():
        if name in arguments and not _fits(arguments[name], hint):
            kind = _KINDS.get(hint, f"of type {getattr(hint, '__name__', hint) if not get_args(hint) else hint}")
            raise ConfigError(f"{where}.{name} must be {kind}, got {arguments[name]!r:.80}")
    arguments = {k: v for k, v in defaults.items() if k in parameters} | arguments
    try:
        return target(**arguments)
    except OptimizeError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _hints(target: Any) -> dict[str, Any]:
    """Argument -> type, as far as the target says."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (AttributeError, NameError, TypeError):  # none, or of names that exist for type checkers only
        return {}


def _fits(value: object, hint: Any) -> bool:
    """Whether a value of the configuration can be of this type; of what is in a mapping or a list nothing is said."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return any(_fits(value, part) for part in get_args(hint))
    plain = get_origin(hint) or hint
    if plain is Any or not isinstance(plain, type) or isinstance(value, plain):
        return True
    if issubclass(plain, str | Mapping) or plain in (bool, NoneType):
        return False
    if plain in (int, float):
        return isinstance(value, int | float) and (plain is float or float(value).is_integer())
    return not issubclass(plain, Sequence) or isinstance(value, list)


def _locate(dotted: str, where: str) -> Any:
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}._target_={dotted!r} cannot be imported: {error}") from error
