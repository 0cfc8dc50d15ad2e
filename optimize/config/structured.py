"""Knobs whose values are mappings or lists, as `speculative_config`: Optuna takes texts, so they are JSON there."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from optimize.config.schema import StudyConfig


def with_texts(config: StudyConfig) -> StudyConfig:
    """The configuration with JSON in the place of mappings and lists among choices, in the baseline and in `at`.

    A list in `at` stays: it is several values, and refused.
    """
    return dataclasses.replace(
        config,
        search_space={knob: _node(node) for knob, node in config.search_space.items()},
        baseline={knob: as_text(value) for knob, value in config.baseline.items()},
        at={knob: as_text(value) if isinstance(value, dict) else value for knob, value in config.at.items()},
    )


def as_text(value: Any) -> Any:
    """The value, as JSON if it is a mapping or a list."""
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value


def _node(node: Any) -> Any:
    """A knob's node: a list of choices, or a mapping with `choices` or `when`."""
    if isinstance(node, list):
        return [as_text(choice) for choice in node]
    if not isinstance(node, dict):
        return node
    texts = dict(node)
    if isinstance(node.get("choices"), list):
        texts["choices"] = _node(node["choices"])
    if isinstance(node.get("when"), dict):
        texts["when"] = {other: _node(values) for other, values in node["when"].items()}
    return texts
