"""Overrides as people write them, in Hydra's grammar.

That grammar refuses `path=my prompts (2).jsonl` and JSON, and it takes `name=2024_01` for a number. What can only be
one text, or is JSON, is quoted here; the rest is answered with the word that works.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from optimize.config.grammar import override_value
from optimize.config.schema import StudyConfig
from optimize.errors import closest

_WORD = re.compile(r"(\+{0,2}[A-Za-z_$][\w$./@-]*)=(.+)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_./-]*")
_NAME = re.compile(r"[\w-]+")
_KEY = re.compile(r"[\w./-][\w./ -]*")
_RULES = "search_space.forbid"
_FEW = 16
"""Most choices that a line names beside the nearest one."""
_OR_LISTS = ("workload.path",)
"""Keys of a text that may also be a list of texts, for which the schema has no type."""


def in_grammar(word: str) -> str:
    """The word of a command line as Hydra takes it; to the letter as it was where that is so already."""
    match = _WORD.fullmatch(word)
    if match is None:
        return word
    key, value = match[1], _at_home(match[2])
    word = f"{key}={value}"
    if _PLAIN.fullmatch(value):
        return word
    if _parses(word):
        return f"{key}={override_value(value)}" if _is_misread(key, word, value) else word
    return next((quoted for quoted in _quoted(key, value) if _parses(quoted)), word)


def _at_home(value: str) -> str:
    """The value with a leading ~ replaced by the user's home folder, as a shell leaves it behind a key."""
    return os.path.expanduser(value) if value.startswith("~/") else value


def _quoted(key: str, value: str) -> Iterator[str]:
    """The word with its value as JSON and as a text, each if it can be that."""
    if value[0] in "[{":
        try:
            yield f"{key}={_container(json.loads(value))}"
        except ValueError:  # no JSON, or a key that Hydra's grammar has no form for
            if key.lstrip("+") == _RULES and value[-1] == "]":  # whose quotes a shell has taken
                yield f"{key}=[{override_value(value[1:-1])}]"
    elif value[0] not in "('\"" and "${" not in value:
        yield f"{key}={override_value(value)}"


def _container(value: Any) -> str:
    """JSON in Hydra's form, whose keys stand without quotes.

    Raises:
        ValueError: a key cannot stand so.
    """
    if isinstance(value, list):
        return f"[{','.join(map(_container, value))}]"
    if not isinstance(value, dict):
        return override_value(value)
    if wrong := next((key for key in value if not _KEY.fullmatch(key)), None):
        raise ValueError(wrong)
    return f"{{{','.join(f'{key}: {_container(item)}' for key, item in value.items())}}}"


def _parses(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def _is_misread(key: str, word: str, value: str) -> bool:
    """Whether Hydra reads a number, a truth value or several values where the schema has a text."""
    override = OverridesParser.create().parse_override(word)
    if override.is_sweep_override():
        return value[0] not in "[{('\"" and "(" not in value and _is_text(key)
    read = override.value()
    return isinstance(read, bool | int | float) and str(read) != value.strip() and _is_text(key)


def _is_text(key: str) -> bool:
    """Whether the schema has a text, or mapping of texts, at a key."""
    if key in _OR_LISTS:
        return True
    kind: Any = StudyConfig
    for name in key.lstrip("+").split("."):
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind).get(name)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return False
        if isinstance(kind, UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
    return kind is str


def nearest(name: str, choices: Collection[str]) -> str:
    """A hint naming the choice nearest to a name, and all of them where they are few."""
    hint, is_short = closest(name, choices), len(choices) <= _FEW
    every = ", ".join(sorted(choices))
    if hint.startswith("valid"):
        return f"valid: {every}" if every and is_short else hint
    return f"{hint} There are {every}" if is_short else hint


def explanation(
    error: OverrideParseException, words: Sequence[str], group: str = "study", choices: Collection[str] = ()
) -> str:
    """One line for a word that Hydra's grammar refuses, with the form that works.

    Args:
        error: The refusal.
        words: The whole command line.
        group: The group that a word without a key is most likely a choice of.
        choices: The choices of that group.
    """
    word = str(error.override)
    if opened := _cut_by_shell(words):
        return f"the shell has split {opened!r} at a space: put the whole word in single quotes, '{opened} ...'"
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word!r} is no override: {_written(word, group, choices)}"
    if key[0:1] in ("'", '"') and value[-1:] == key[0]:
        return f"{word!r} holds quotes that are for the shell alone: write {word[1:-1]}"
    if key != key.strip():
        return f"{word!r} has a space before the '=': write {key.strip()}={value.strip()}"
    if ".-" in key:
        return f"{word!r} has the dashes of a command line: write {re.sub('[.]-+', '.', key).replace('-', '_')}={value}"
    if not all(key.lstrip("+~").split(".")):
        return f"{word!r} has a dot without a name beside it: write key=value, e.g. study.trials=40"
    return f"{word!r} is not in Hydra's grammar: write {_remedy(key, value)}"


def _written(word: str, group: str, choices: Collection[str]) -> str:
    """How to write what a word without a key may stand for."""
    chooses = "+study" if group == "study" else group
    if word in choices:
        return f"write {chooses}={word}"
    if group == "study" or not _NAME.fullmatch(word):
        return "write key=value, e.g. study.trials=40"
    return f"write {chooses}=NAME, and {word!r} is no such name; {nearest(word, choices)}"


def _cut_by_shell(words: Sequence[str]) -> str:
    """The first word with an open bracket, where others follow it; empty where there is none."""
    opened = next((w for w in words if w.count("{") + w.count("[") > w.count("}") + w.count("]")), "")
    return opened if opened and opened != words[-1] else ""


def _remedy(key: str, value: str) -> str:
    """The word that works, for a shell; a rule where none is found."""
    candidate = f"{key}=[{', '.join(map(_double_quoted, value[1:-1].split(',')))}]"
    if value[:1] == "[" and value[-1:] == "]" and not set(value[1:-1]) & set("[]{}'\"") and _parses(candidate):
        return shlex.quote(candidate)
    quoted = override_value(value) if set(value) & set('"\\') else f'"{value}"'
    if value.startswith("{{") and _parses(f"{key}={quoted}"):
        return shlex.quote(f"{key}={quoted}")
    return f"'{key}=[\"a=b\"]' for a list with a text of other signs, '{key}={{a: \"b=c\"}}' for a mapping, each closed"


def _double_quoted(text: str) -> str:
    return text.strip() if _PLAIN.fullmatch(text) else f'"{text.strip()}"'
