"""What a cell says: its text, a limit, or a value for the body of a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optimize.workload.example import BadCell

REPLACEMENT = "\ufffd"


class Number(float):
    """A number with the text that it had in its file, which Python's own floats forget (`1.10`, `1e3`)."""

    text: str

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number


def clean(text: str) -> str:
    """The text with U+FFFD for halves of characters (lone surrogates), which JSON may hold and nobody can send."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def text_of(value: object) -> str | None:
    """The text of a cell: its own, or JSON's for a number, true and false; None where it has none."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):  # of Parquet files whose writer did not say that the column is text
        return _decoded(value)
    if isinstance(value, Number):
        return value.text
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def words_of(value: object, column: str) -> str:
    """The text of a prompt.

    Raises:
        BadCell: it is none, or empty.
    """
    text = text_of(value) if isinstance(value, str | bytes) else None
    if not text:
        raise BadCell(f"{column} must be text or a list of messages with role and content, got {value!r:.80}")
    return text


def answer_of(value: object, column: str) -> str:
    """The text of a reference.

    Raises:
        BadCell: it is none.
    """
    text = text_of(value)
    if text is None:
        raise BadCell(
            f"{column} must be text, got {value!r:.80}: correct or remove the row, or set "
            "workload.reference_column=null to score without references"
        )
    return text


def limit_of(value: object, column: str) -> int:
    """The bound on an answer.

    Raises:
        BadCell: it is no whole number from 1.
    """
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    number = int(number) if isinstance(number, float) and number.is_integer() else number
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise BadCell(f"{column} must be a whole number from 1, got {value!r:.80}")
    return number


def plain(value: Any) -> Any:
    """A value of a request's body, its texts ready to be sent."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(part) for part in value]
    return float(value) if isinstance(value, Number) else value
