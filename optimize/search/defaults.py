"""vLLM's default among the values of a knob. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution

from optimize.config.structured import as_text

UNSET = (None, "auto")
"""Choices that leave a flag to vLLM."""


def default_among(distribution: BaseDistribution, reported: Any) -> Any:
    """The value of a knob that stands for vLLM's default; where it has none, what is reported.

    None, which leaves the flag to vLLM, if that is nothing or a whole part of vLLM's configuration.

    A choice that leaves the flag to vLLM is the default, whatever vLLM makes of it. Texts may differ in case; a mapping
    is the default where all that it sets is what the engine runs with.

    Args:
        distribution: The knob's.
        reported: What an engine without flags runs with; None where it does not say.
    """
    value, choices = as_text(reported), getattr(distribution, "choices", ())
    equal = [c for c in choices if c == value or _same_text(c, value) or _agrees(c, reported)]
    matches = [*equal, *(choice for choice in choices if choice in UNSET)]
    return matches[0] if matches else None if isinstance(reported, Mapping) else value


def _same_text(choice: Any, value: Any) -> bool:
    return isinstance(choice, str) and isinstance(value, str) and choice.lower() == value.lower()


def _agrees(choice: Any, reported: Any) -> bool:
    """Whether all that a choice in JSON sets is reported as set."""
    if not isinstance(reported, Mapping) or not isinstance(choice, str) or not choice.startswith("{"):
        return False
    settings: Mapping[str, Any] = json.loads(choice)
    return all(reported.get(name) == value for name, value in settings.items())


def first_of(names: Sequence[str], sources: Iterable[Mapping[str, Any]]) -> Any:
    """The first value that a source has under one of these names; None where none has any."""
    return next((source[name] for source in sources for name in names if name in source), None)
