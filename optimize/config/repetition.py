"""Repetitions in what each value is to be named once in: they would be dropped, or measured twice, without a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from optimize.errors import ConfigError


def refuse_repetition(where: str, values: Sequence[Any]) -> None:
    """Refuse a list that holds a value twice; 1 and true are two values, 1 and 1.0 are one.

    Args:
        where: The list's place in the configuration, for the message.
        values: The list.

    Raises:
        ConfigError: the value and the remedy.
    """
    typed = [(isinstance(value, bool), value) for value in values]
    if repeated := [value for place, value in enumerate(typed) if value in typed[:place]]:
        raise ConfigError(f"{where} holds {repeated[0][1]!r} twice: leave one out")


def refuse_repeated_choices(words: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse a group's choices that are named twice: Hydra would merge the file with itself.

    Args:
        words: The overrides in Hydra's grammar.
        folders: Those that hold configuration files, the project's own and the user's.

    Raises:
        ConfigError: the group, the choice and the remedy.
    """
    groups = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key.partition("@")[0] in groups and value.startswith("["):
            refuse_repetition(key, _choices(word))
        elif key == "study":
            for path in (folder / "study" / f"{value}.yaml" for folder in folders):
                for name, choices in _defaults(path):
                    refuse_repetition(f"{name} in {path}", choices)


def refuse_repeated_additions(words: Sequence[str]) -> None:
    """Refuse a key that is added twice by a plus, such as a limit: only the second one would hold.

    Raises:
        ConfigError: the key and the remedy.
    """
    keys = [word.partition("=")[0] for word in words if word.startswith("+") and not word.startswith("++")]
    if repeated := [key for place, key in enumerate(keys) if key in keys[:place]]:
        raise ConfigError(f"{repeated[0]} is given twice: give it once")


def _choices(word: str) -> list[Any]:
    """The choices that a word names; none where Hydra cannot read it, which says so itself."""
    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException:
        return []
    return value if isinstance(value, list) else []


def _defaults(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Groups of which a file names several choices; none where it cannot be read, which Hydra says itself."""
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    defaults = node.get("defaults") if isinstance(node, dict) else None
    for entry in defaults if isinstance(defaults, list) else []:
        for key, choices in entry.items() if isinstance(entry, dict) else []:
            if isinstance(choices, list):
                yield str(key).removeprefix("override ").lstrip("/"), choices
