"""Rows of JSON: an object a line, an array of objects, arrays by column, or an object around an array."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from optimize.errors import ConfigError
from optimize.workload.cells import Number
from optimize.workload.example import Row
from optimize.workload.messages import is_conversation

_CHUNK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")
_WRAPPERS = {"data", "rows", "examples", "instances", "records", "items", "samples", "questions", "train", "test"}
_NEAR_THE_END = 64  # characters within which a mistake may come of the end of what has been read


_DECODER = json.JSONDecoder(parse_float=Number)


def json_rows(stream: TextIO, file: str, by_line: bool) -> Iterator[Row]:
    """The rows of a JSON text, one after the other.

    Args:
        stream: The text.
        file: Its name, for messages.
        by_line: Whether its name says that every line is an object; otherwise one object may take many lines.

    Raises:
        ConfigError: it is not JSON, or its rows are not objects.
    """
    lead = _first_line(stream)
    if lead.lstrip().startswith("["):
        values = _elements(lead, stream, file)
        yield from (_row(value, file, "row", number) for number, value in enumerate(values, 1))
        return
    number = lead.rstrip("\n").count("\n") + 1
    value = _decoded(lead)
    if value is None and lead.strip() and not by_line:
        yield from _of_document(_document(lead + stream.read(), file), file, 1)
        return
    later = _lines(stream, number + 1, file)
    second = next(later, None)
    if second is None and isinstance(value, dict) and not by_line:
        yield from _of_document(value, file, number)
        return
    yield from _lines([lead.strip()], number, file)
    yield from itertools.chain([second] if second else [], later)


def _first_line(stream: TextIO) -> str:
    """The first line that is not empty, with those before it; of an array, which may be all of one line, its start."""
    lead = ""
    while not lead.strip() and (line := stream.readline(_CHUNK)):
        lead += line
    return lead if lead.lstrip().startswith("[") or lead.endswith("\n") else lead + stream.readline()


def _decoded(text: str) -> Any:
    """The value of a JSON text; None where it is not valid."""
    try:
        return _DECODER.decode(text)
    except ValueError:
        return None


def _lines(lines: Iterable[str], first: int, file: str) -> Iterator[Row]:
    for number, line in enumerate(lines, first):
        if line.strip():
            yield _row(_decoded(line), file, "line", number, line.strip())


def _row(value: Any, file: str, unit: str, number: int, text: str = "") -> Row:
    if isinstance(value, str) and unit == "row":
        return Row(file, unit, number, {"prompt": value})  # an array of texts
    if not isinstance(value, dict):
        shown = repr((text or json.dumps(value))[:60])
        raise ConfigError(f"workload.path={file}: {unit} {number} is not a JSON object: {shown}; correct or remove it")
    return Row(file, unit, number, value)


def _document(text: str, file: str) -> Any:
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        raise ConfigError(
            f"workload.path={file} is not valid JSON: {error}; correct it, or end its name in .jsonl if every "
            "line is an object"
        ) from error


def _elements(lead: str, stream: TextIO, file: str) -> Iterator[Any]:
    """The elements of an array, read as they are needed."""
    text, at, number = lead, lead.index("[") + 1, 1
    while True:
        at = _end(_BETWEEN, text, at)
        if text[at : at + 1] == "]":
            return _nothing_after(text[at + 1 :] + stream.read(_CHUNK), file)
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            more = "" if _is_mistake(error, len(text)) else stream.read(max(_CHUNK, len(text) - at))
            if not more:
                shown = text[at : at + 60]
                raise ConfigError(
                    f"workload.path={file}: row {number} is not valid JSON ({error.msg}): {shown!r}; correct it"
                ) from error
            text, at = text[at:] + more, 0
            continue
        yield value
        number += 1


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _is_mistake(error: json.JSONDecodeError, length: int) -> bool:
    """Whether more of the text could not mend an error: it is not where the text read so far ends."""
    return not error.msg.startswith("Unterminated") and length - error.pos > _NEAR_THE_END


def _nothing_after(text: str, file: str) -> None:
    if text.strip():
        raise ConfigError(
            f"workload.path={file} goes on after its array: {text.strip()[:60]!r}; put all rows into one array, or an "
            "object into every line"
        )


def _of_document(value: Any, file: str, line: int) -> Iterator[Row]:
    """The rows of one object: those of the array in it, those that its columns make up, or the object itself."""
    rows = _inside(value) if isinstance(value, dict) else None
    if rows is None:
        yield _row(value, file, "line", line)
        return
    for number, row in enumerate(rows, 1):
        yield _row(row, file, "row", number)


def _inside(document: dict[str, Any]) -> Iterator[Any] | None:
    values = list(document.values())
    if any(is_conversation(value) for value in values):
        return None  # the file has a single row
    arrays = {name: value for name, value in document.items() if isinstance(value, list) and value}
    rows = [value for name, value in arrays.items() if len(document) == 1 or name.lower() in _WRAPPERS]
    if len(rows) == 1 and isinstance(rows[0][0], dict):
        return iter(rows[0])
    if values and all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1:
        return (dict(zip(document, cells, strict=True)) for cells in zip(*values, strict=True))
    if values and all(isinstance(value, Mapping) for value in values) and len({tuple(value) for value in values}) == 1:
        return ({name: column[key] for name, column in document.items()} for key in values[0])  # as pandas writes it
    return None
