"""The values that a knob may take."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.errors import ConfigError
from optimize.redaction import MASK, masked
from optimize.search.variables import is_variable

_CLOSE = 1e-9


def by_name(knob: str, node: Any) -> Any:
    """A knob's node with the names of secrets in the place of choices that are secrets: storage keeps every choice.

    Raises:
        ConfigError: a secret that has no name.
    """
    if not isinstance(node, dict):
        named = choices = masked(node, knob)
    else:
        named = {key: masked(value, knob if key == "choices" else key) for key, value in node.items()}
        choices = named.get("choices", ())
    if is_variable(knob) and named != node:
        raise ConfigError(f"search_space.{knob}: a secret is among the choices, and no study tries secrets: remove it")
    if isinstance(choices, list) and any(MASK in str(choice) for choice in choices):
        raise ConfigError(f"search_space.{knob}: a secret among the choices has no name: give it as ${{oc.env:NAME}}")
    return named


def values(distribution: BaseDistribution) -> list[Any]:
    """All choices, or the two ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether the knob may take this value."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and bool(nearest(distribution, value) == value)


def widened(distribution: BaseDistribution, value: Any) -> BaseDistribution:
    """The distribution with one more value: another choice, or a range up to it.

    It stays as it is where that cannot be: below the zero of a logarithm, between steps, and for what is no number.
    """
    if contains(distribution, value):
        return distribution
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution([*distribution.choices, value])
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    whole = isinstance(distribution, IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return distribution
    if (distribution.log and value <= 0) or _is_between_steps(distribution, value):
        return distribution
    kind, low, high = type(distribution), min(value, distribution.low), max(value, distribution.high)
    return kind(low, high, log=distribution.log, step=distribution.step)  # type: ignore[arg-type]


def _is_between_steps(distribution: IntDistribution | FloatDistribution, value: float) -> bool:
    if distribution.step is None:
        return False
    steps = (value - distribution.low) / distribution.step
    return abs(steps - round(steps)) > _CLOSE


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """The value itself if the distribution contains it, else the nearest one it contains; the first for None.

    Raises:
        ConfigError: the value is no number where the knob is a range.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        if value in choices:
            return value
        numbers = [c for c in choices if isinstance(c, int | float)]
        if numbers and isinstance(value, int | float):
            return min(numbers, key=lambda c: abs(c - value))
        return choices[0]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if value is None:
        return distribution.low
    if not isinstance(value, int | float):
        raise ConfigError(f"a baseline value must be a number where the knob is a range, got {value!r}")
    inside = min(max(value, distribution.low), distribution.high)
    if distribution.step is not None:
        inside = distribution.low + round((inside - distribution.low) / distribution.step) * distribution.step
    return inside
