"""Hydra's grammar of overrides: values written so that Hydra reads them as they are."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "nan", "inf"}


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
