"""Parts of flags in a configuration: a mapping of knobs becomes a knob for each, `speculative_config.method`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from optimize.config.schema import StudyConfig

_OF_NODES = frozenset({"_target_", "choices", "high", "log", "low", "power_of_two", "step", "when"})
"""Keys of a knob's own node; a mapping without any holds knobs."""


def with_parts(config: StudyConfig) -> StudyConfig:
    """The configuration with `search_space.FLAG.PART` as the knob "FLAG.PART", in the baseline too.

    In `at`, where a mapping is the value of the whole flag, parts without a value are left out.
    """
    space = _flat(config.search_space)
    return dataclasses.replace(
        config,
        search_space=space,
        baseline=_flat_like(space, config.baseline),
        at={knob: _without_null(value) for knob, value in config.at.items()},
    )


def _flat(nodes: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for knob, node in nodes.items():
        if isinstance(node, dict) and node and not _OF_NODES.intersection(node):
            flat |= _flat({f"{knob}.{part}": inner for part, inner in node.items()})
        else:
            flat[knob] = node
    return flat


def _flat_like(knobs: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of knobs: mappings are taken apart where their parts are knobs."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and any(knob.startswith(f"{name}.") for knob in knobs):
            flat |= _flat_like(knobs, {f"{name}.{part}": inner for part, inner in value.items()})
        else:
            flat[name] = value
    return flat


def _without_null(value: Any) -> Any:
    """A value, without what is null in a mapping; null where nothing is left."""
    if not isinstance(value, dict):
        return value
    return {name: _without_null(inner) for name, inner in value.items() if _without_null(inner) is not None} or None
