"""Conditions of knobs: `when: {other knob: values}` in a knob's node, with which alone it has an effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution

from optimize.config.repetition import refuse_repetition
from optimize.errors import ConfigError, closest
from optimize.search import domain

WHEN = "when"
Conditions = Mapping[str, Mapping[str, Sequence[Any]]]
"""Knob -> {other knob: values} with which alone it has an effect."""


def counts(conditions: Conditions, knob: str, params: Mapping[str, Any]) -> bool:
    """Whether a knob has any effect beside these settings, from which knobs without a choice may be missing.

    It has none either beside a knob that has none itself.
    """
    return all(
        other not in params or (params[other] in values and counts(conditions, other, params))
        for other, values in conditions.get(knob, {}).items()
    )


def without(node: Any) -> Any:
    """A knob's node without its condition."""
    return {k: v for k, v in node.items() if k != WHEN} if isinstance(node, Mapping) else node


def conditions_of(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Knob -> its condition, without those on knobs that are left out (null), whose value never changes.

    Args:
        nodes: Knob -> its node, or None.
    """
    conditions = {knob: node[WHEN] for knob, node in nodes.items() if isinstance(node, Mapping) and WHEN in node}
    left_out = {knob for knob, node in nodes.items() if node is None}
    bare = {
        knob: {other: values for other, values in condition.items() if other not in left_out}
        if isinstance(condition, Mapping)
        else condition
        for knob, condition in conditions.items()
    }
    return {knob: condition for knob, condition in bare.items() if condition or not conditions[knob]}


def check_conditions(conditions: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> None:
    """Refuse conditions that name no knob, no values, or values that the other knob never has.

    Raises:
        ConfigError: the first of them.
    """
    for knob, condition in conditions.items():
        where = f"search_space.{knob}.{WHEN}"
        if not isinstance(condition, Mapping) or not all(isinstance(v, list) and v for v in condition.values()):
            raise ConfigError(f"{where} must map other knobs to lists of values, e.g. {{quantization: [int8]}}")
        for other, values in condition.items():
            if other not in distributions:
                raise ConfigError(f"{where}: {other!r} is no knob of the search space; {closest(other, distributions)}")
            if _depends(conditions, other, knob):
                raise ConfigError(
                    f"{where}: whether {other!r} counts depends on {knob!r} itself: leave one of them out"
                )
            refuse_repetition(f"{where}.{other}", values)
            for value in values:
                if not domain.contains(distributions[other], value):
                    raise ConfigError(f"{where}: {other} is never {value!r}: name values of its range or choices")


def _depends(conditions: Mapping[str, Any], knob: str, other: str) -> bool:
    """Whether a knob is another, or counts beside certain values of it only, by way of further knobs too."""
    waiting, reached = [knob], set[str]()
    while waiting:
        at = waiting.pop()
        reached.add(at)
        nearer = conditions.get(at, {})
        waiting += [k for k in nearer if k not in reached] if isinstance(nearer, Mapping) else []
    return other in reached
