"""Knobs that are environment variables of engines: `env.VLLM_CPU_OMP_THREADS_BIND`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PREFIX = "env."


def is_variable(knob: str) -> bool:
    """Whether the knob is an environment variable."""
    return knob.startswith(PREFIX)


def names(knobs: Iterable[str]) -> list[str]:
    """The variables among some knobs, by their own names."""
    return [knob.removeprefix(PREFIX) for knob in knobs if is_variable(knob)]


def environment(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(variable, value) of a point, sorted; a variable of value None is not set."""
    values = {knob: text(value) for knob, value in params.items() if is_variable(knob) and value is not None}
    return tuple(sorted((knob.removeprefix(PREFIX), value) for knob, value in values.items()))


def text(value: Any) -> str:
    """A value as programs read it from their environment: 1 and 0 for true and false."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def choice_of(choices: Iterable[Any], value: Any) -> Any:
    """The choice that is written like a value: "1" for True; the value itself where there is none."""
    return next((c for c in choices if c is not None and text(c) == text(value)), value)
