"""Knobs that are parts of a flag whose value is JSON: `speculative_config.num_speculative_tokens`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optimize.errors import ConfigError
from optimize.search.knobs import flag_of, part_of


def with_parts(fixed: Mapping[str, Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Flags with the values of knobs: whole flags first, then parts of flags, beside what is fixed of the same flag.

    A part without a value (null) is left to vLLM, and so is a flag of which nothing is set.

    Args:
        fixed: Flag -> value.
        knobs: Knob -> value, of knobs that are flags or parts of them.
    """
    flags = {**fixed, **{flag_of(knob): value for knob, value in knobs.items() if not part_of(knob)}}
    for flag in dict.fromkeys(flag_of(knob) for knob in knobs if part_of(knob)):
        parts = {part_of(k): v for k, v in sorted(knobs.items()) if flag_of(k) == flag and part_of(k)}
        settings: dict[str, Any] = dict(_mapping(flags.get(flag)))
        for part, value in parts.items():
            if value is not None:
                settings = _merged(settings, nested(part, value))
        if settings:
            flags[flag] = json.dumps(settings, sort_keys=True)
    return flags


def nested(part: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as {a: {b: value}}; a list or a mapping that is written as JSON is one again."""
    head, _, rest = part.partition(".")
    return {head: nested(rest, value) if rest else _plain(value)}


def reported(part: str, flag: Any) -> Any:
    """What an engine says of a part, given what it says of its flag; None where it says nothing."""
    for name in part.split("."):
        flag = flag.get(name) if isinstance(flag, Mapping) else None
    return flag


def check_parts(knobs: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Refuse two knobs that set the same, and knobs that set what the model fixes.

    Args:
        knobs: Knob -> anything.
        fixed: Flag -> value, of `model.flags`.

    Raises:
        ConfigError: the first of them.
    """
    places = {knob: _place(knob) for knob in knobs}
    for knob, place in places.items():
        for other, at in places.items():
            if other != knob and (at == place or place.startswith(f"{at}.")):
                raise ConfigError(f"search_space: {knob!r} and {other!r} both set {at!r}: remove one of them")
        flag, part = flag_of(knob), part_of(knob)
        if flag in fixed and (not part or not _is_open(part, fixed[flag])):
            raise ConfigError(f"search_space.{knob} is also fixed by model.flags.{place}: remove one of them")


def _place(knob: str) -> str:
    return f"{flag_of(knob)}.{part_of(knob)}" if part_of(knob) else flag_of(knob)


def _is_open(part: str, fixed: Any) -> bool:
    """Whether a fixed flag leaves a part open."""
    return isinstance(fixed, Mapping) and reported(part, fixed) is None


def _mapping(value: Any) -> Mapping[str, Any]:
    plain = _plain(value)
    return plain if isinstance(plain, Mapping) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:  # a text that begins with a bracket
            return value
    return value


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings, those in them merged too."""
    both = {
        k: _merged(one[k], other[k]) for k in one if isinstance(one[k], Mapping) and isinstance(other.get(k), Mapping)
    }
    return {**one, **other, **both}
