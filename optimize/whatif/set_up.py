"""What a question cannot change: the settings by which the stored figures were measured.

They are compared as both configurations were composed, the study's and the command's. A word of the command that asks
for another one is refused, since the answer would pass over it; a difference that no word asks for, such as that of an
edited file or of a word that was left out, is named beside the answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from optimize.config.command_words import words_of
from optimize.errors import ConfigError
from optimize.formatting import printable

_PARTS = (
    "search_space", "baseline", "sampler", "search", "study", "confirm", "load", "workload", "quality", "model",
    "quantization", "recipes", "engine", "executor",
)  # fmt: skip
"""Keys of the configuration below which everything was decided when the study measured, but for `_FREE`."""
_FREE = frozenset({"study.name", "study.fresh", "confirm.rounds"})
_GROUPS = {"space": "search_space"}
"""Groups whose key has another name."""
_KNOBS = ("search_space.", "baseline.")
_MASKED = re.compile(r"/(?:path|address|host)-\d+")
"""A place on the machine from which an archive came."""
_MOST, _LONGEST = 3, 60
_ABSENT = "not set"


def check_set_up(study: str, stored: str, asked: str, kept: Collection[str], has_slo: bool) -> list[str]:
    """Refuse words that ask for another set-up than the measured one.

    Args:
        study: The study's name.
        stored: The YAML of its configuration, with its words; empty where it is lost: then nothing is compared.
        asked: The YAML of the command's.
        kept: Metrics whose figures stay as they were stored, whatever their settings.
        has_slo: Whether a figure that is computed again depends on `slo`.

    Returns:
        A line on differences that no word asks for; nothing where there is none.

    Raises:
        ConfigError: a word that cannot change anything, and the remedy.
    """
    then, now = _read(stored), _read(asked)
    if not then:
        return []
    parts = [*_PARTS, *([] if has_slo else ["slo"])]
    differences = {
        key: (old, new)
        for part in parts
        if part in then
        for key, old, new in _differences(part, then[part], now.get(part))
        if key not in _FREE
    }
    differences |= _of_metrics(then, now, kept)
    words = [word for word in words_of(asked) if not re.match(r"\++study=", word)]
    for key, (old, _) in differences.items():
        if word := next((word for word in words if _sets(word, key)), ""):
            raise ConfigError(
                f"{word} can change nothing here: what study {study!r} has measured rests on {key}={_shown(old)}; "
                "leave it out, or run a study with it (python -m optimize)"
            )
    return _note(differences)


def _read(text: str) -> dict[str, Any]:
    try:
        node = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return node if isinstance(node, dict) else {}


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, value in the study, value here) of all that differs; a missing value and null are one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("_target_") == new.get("_target_"):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new and not (isinstance(old, str) and _MASKED.fullmatch(old)):
        yield key, old, new


def _of_metrics(then: Mapping[str, Any], now: Mapping[str, Any], kept: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """The differences in settings of metrics whose figures are not computed again; those without figures aside."""
    old, new = ({**(node.get("metrics") or {}), **(node.get("objectives") or {})} for node in (then, now))
    return {
        f"objectives.{key}": (was, is_)
        for name in kept
        if name in old and name in new
        for key, was, is_ in _differences(name, old[name], new[name])
    }


def _sets(word: str, key: str) -> bool:
    """Whether a word of a command line sets a key, a part of it, or what it is a part of."""
    name = word.lstrip("+~").partition("=")[0].partition("@")[0]
    name = re.sub(r"^metrics\.", "objectives.", _GROUPS.get(name, name))
    if name in ("objectives", "metrics"):  # the choice of metrics is part of a question
        return False
    return f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.")


def _note(differences: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """A line on differences; those in keys that one of the two does not have may be of a release, not of a user."""
    lines = [
        f"{key} is {_shown(new)}, in the study {_shown(old)}"
        for key, (old, new) in differences.items()
        if None not in (old, new) or key.startswith(_KNOBS)
    ]
    more = f"; and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    start = "What was measured stays as it is in the study, although this command's configuration differs"
    return [f"{start}: {'; '.join(lines[:_MOST])}{more}."] if lines else []


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "_target_" in value:
        value = str(value["_target_"]).rpartition(".")[2]
    text = _ABSENT if value is None else printable(str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
