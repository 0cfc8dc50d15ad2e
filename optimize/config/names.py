"""Names that files and folders are called after."""

from __future__ import annotations

import secrets
import unicodedata
from datetime import UTC, datetime

from optimize.errors import ConfigError

LONGEST_FOLDER = 200
"""Bytes of the longest name of a folder of ours; file systems allow 255."""


def is_name(name: str, most_bytes: int = LONGEST_FOLDER) -> bool:
    """Whether a name fits for a file or folder: letters of any script, digits, '-', '_', and '.' within."""
    letters = all(c.isalnum() or c in "-_." or unicodedata.category(c)[0] == "M" for c in name)
    return letters and name != "" and "." not in (name[0], name[-1]) and len(name.encode()) <= most_bytes


def new_name(*parts: str) -> str:
    """A name that no other command takes: parts, the time, and four digits at random.

    Commands may begin in the same second, or again in one that the clock was set back to.
    """
    return "-".join([*parts, f"{datetime.now(UTC):%Y%m%d-%H%M%S}", secrets.token_hex(2)])


def check_name(key: str, name: str, most_bytes: int = 150) -> None:
    """Refuse a name that does not fit for a file or folder, with a date, a hash or another name beside it.

    Args:
        key: What of the configuration it is.
        name: The name.
        most_bytes: Longest name.

    Raises:
        ConfigError: naming both.
    """
    if not is_name(name, most_bytes):
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise ConfigError(
            f"{key}={shown!r} must consist of letters, digits, '-', '_' and '.', neither begin nor end with '.', and "
            f"have at most {most_bytes} bytes: files are named after it"
        )
