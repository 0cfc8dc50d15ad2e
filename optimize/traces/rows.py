"""The rows of a trace's file: JSON lines, JSON or CSV, in the encodings and compressions that they are found in."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TextIO

from optimize.errors import ConfigError, one_line

Row = tuple[int, Mapping[str, Any]]
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = ",;\t"
_RESULT = {"start_times": "start_time", "input_lens": "input_len", "output_lens": "output_len"}
"""Lists in what `vllm bench serve --save-detailed` writes, and the columns that they become."""
_SHOWN = 60


def digest(path: Path, setting: str) -> str:
    """Twelve hexadecimal digits over a file's bytes.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise _unreadable(setting, error) from error


def rows_of(path: Path, setting: str) -> Iterator[Row]:
    """(line, columns) of each row, one after the other.

    Args:
        path: The file; what it holds is told by its first bytes, not by its name.
        setting: The file's name in messages.

    Raises:
        ConfigError: it cannot be read, or a line is no row.
    """
    try:
        with _opened(path) as text:
            head = next((line for line in text if line.strip()), "")
        with _opened(path) as text:
            yield from _json_rows(text, head, setting) if head.lstrip()[:1] in ("{", "[") else _csv_rows(text, head)
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise _unreadable(setting, error) from error


def _unreadable(setting: str, error: Exception) -> ConfigError:
    return ConfigError(f"load.arrivals.path={setting} cannot be read ({one_line(error)}): give a trace in JSONL or CSV")


def _opened(path: Path) -> TextIO:
    with _unpacked(path) as file:
        utf16 = file.read(2) in _UTF16
    return io.TextIOWrapper(_unpacked(path), encoding="utf-16" if utf16 else "utf-8-sig", newline="")


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(_GZIP):
        return gzip.open(path)  # type: ignore[return-value]
    if magic == _ZSTD:
        import pyarrow

        stream: IO[bytes] = pyarrow.input_stream(str(path), compression="zstd")
        return stream
    return path.open("rb")


def _csv_rows(text: TextIO, head: str) -> Iterator[Row]:
    delimiter = max(_DELIMITERS, key=head.count)
    lines = csv.reader(text, delimiter=delimiter)
    columns = next((cells for cells in lines if any(cells)), [])
    for cells in lines:
        if any(cells):
            yield lines.line_num, dict(zip(columns, cells, strict=False))


def _json_rows(text: TextIO, head: str, setting: str) -> Iterator[Row]:
    for number, value in _values(text, head, setting):
        if not isinstance(value, dict):
            raise _no_row(setting, number, json.dumps(value))
        yield from _requests_of(value, number, setting)


def _values(text: TextIO, head: str, setting: str) -> Iterator[tuple[int, Any]]:
    """(line, value) of JSON lines; of one JSON document its items, counted from 1."""
    if head.lstrip().startswith("[") or not _is_json(head):
        yield from enumerate(_items(text, head, setting), 1)
        return
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                raise _no_row(setting, number, line) from None


def _items(text: TextIO, head: str, setting: str) -> Iterable[Any]:
    try:
        document = json.load(text)
    except ValueError:
        raise _no_row(setting, 1, head) from None
    return document if isinstance(document, list) else [document]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _no_row(setting: str, number: int, line: str) -> ConfigError:
    return ConfigError(
        f"load.arrivals.path={setting}, line {number}: must be an object with the columns of a request, got "
        f"{line.strip()[:_SHOWN]!r}"
    )


def _requests_of(value: Mapping[str, Any], number: int, setting: str) -> Iterator[Row]:
    """The row itself, or the requests in a result of vLLM's benchmark."""
    if "request_throughput" not in value:
        yield number, value
        return
    lists = [value.get(name) for name in _RESULT]
    if not all(isinstance(column, list) for column in lists):
        raise ConfigError(
            f"load.arrivals.path={setting} is a result of vllm bench serve without its requests: save it with "
            "--save-detailed"
        )
    columns: list[list[Any]] = [column for column in lists if column is not None]
    for cells in itertools.zip_longest(*columns):
        yield number, dict(zip(_RESULT.values(), cells, strict=True))
