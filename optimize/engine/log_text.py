"""The text of an engine's log: what it would look like on paper."""

from __future__ import annotations

import re
from pathlib import Path

_ESCAPES = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles and links
    r"|[PX^_][^\x1b]*(?:\x1b\\)?"  # strings for the terminal itself
    r"|[ -/]*[0-~])?"  # character sets, resets
)
"""Sequences of ECMA-48 (section 5) that begin with the escape character; one that stands alone goes, too."""


def plain(text: str) -> str:
    """A text without a terminal's escape sequences."""
    return _ESCAPES.sub("", text)


def read_log(path: Path) -> str:
    """A log without escape sequences: in a record they are noise, and on a terminal they move its cursor.

    Raises:
        OSError: it cannot be read.
    """
    return plain(path.read_bytes().decode("utf-8", "replace"))
