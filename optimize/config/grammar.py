"""What a text may hold that is to be written into other programs' files, and how Hydra's overrides quote it."""

from __future__ import annotations

import json
import re
import unicodedata

from optimize.errors import ConfigError

_REFUSED = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, undecodable bytes of a path, and separators of lines and paragraphs."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "nan", "inf"}


def one_line(value: object) -> str:
    """The value as text.

    Raises:
        ConfigError: it holds a control character.
    """
    text = str(value)
    for character in text:
        if unicodedata.category(character) in _REFUSED:
            raise ConfigError(
                f"{text[:80]!r} holds the control character {character!r}, which no generated file can quote: remove "
                "it, or move the value to a file and name that"
            )
    return text


def variable(name: str) -> str:
    """The name of an environment variable.

    Raises:
        ConfigError: a shell could not set it.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of an environment variable: use letters, digits and '_', and no digit first"
        )
    return name


def override_value(value: object) -> str:
    """A value of an override, to be quoted once more for a shell.

    Args:
        value: A text, a number, a truth value or nothing.
    """
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # Backslashes count as escapes only before a quote, and for OmegaConf before an interpolation.
    literal = re.sub(r"(\\*)\$\{", lambda m: f"{2 * m[1]}\\${{", value)
    quoted = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), literal)
    return f"'{quoted}'"
