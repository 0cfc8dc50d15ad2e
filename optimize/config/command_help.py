"""`python -m optimize.COMMAND --help`: what a command does, and the settings of its own."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator

from optimize.config import schema
from optimize.config.locations import CONF
from optimize.config.reference import default_of, documented

_WIDTH = 120
_STUDY = "optimize"


def asks_for_help(words: typing.Iterable[str]) -> bool:
    return not {"--help", "-h"}.isdisjoint(words)


def command_help(module: str, about: str) -> str:
    """The help of a command; empty for the study's own, whose help is Hydra's.

    Args:
        module: The module of the command, e.g. "optimize.guard.__main__".
        about: Its docstring.
    """
    name = module.removesuffix(".__main__").removeprefix(f"{_STUDY}.")
    if name == _STUDY or not about:
        return ""
    page = CONF.parent / "docs" / f"{name}.md"
    head = inspect.cleandoc(about).partition("\n\n")[0].replace("`", "")
    end = (
        f"{f'More: docs/{name}.md. ' if page.is_file() else ''}All commands and groups: python -m optimize --help. All "
        "keys: docs/configuration.md."
    )
    return "\n\n".join([_wrapped(head), *_settings(name), _wrapped(end)])


def _settings(name: str) -> Iterator[str]:
    """A paragraph for each setting of the command's own part of the schema."""
    part = typing.get_type_hints(schema.StudyConfig).get(name)
    if isinstance(part, type) and dataclasses.is_dataclass(part):
        yield from _paragraphs(part, f"{name}.")


def _paragraphs(cls: type, prefix: str) -> Iterator[str]:
    notes, types = documented(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = f"{prefix}{field.name}", types[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _paragraphs(kind, f"{key}.")
        else:
            note = notes.get(field.name, "").replace("`", "")
            yield f"  {key}={default_of(field).strip('`')}\n{_wrapped(note, '      ')}"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, initial_indent=indent, subsequent_indent=indent)
