"""Rows of CSV and TSV, every cell the text that its file has, and lines of plain text."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TextIO

from optimize.errors import ConfigError
from optimize.workload.example import Row

_SEPARATORS = (",", ";", "\t", "|")
_NONE = "\x1f"
"""Of a table with a single column, whose texts may hold any of them."""
_SAMPLE_LINES, _SAMPLE_ROWS = 200, 20
Record = tuple[int, list[str]]


def separator_of(stream: TextIO) -> str:
    """What separates the cells of a CSV text, as its first rows show: the one that gives them all the same length."""
    lines = list(islice(stream, _SAMPLE_LINES))
    if lines and lines[0].lower().startswith("sep="):  # as Excel writes it, and reads it
        return lines[0][4:5]
    best = max(_SEPARATORS, key=lambda separator: _fit(lines, separator))
    return best if _fit(lines, best)[1] > 1 else _NONE


def _fit(lines: Sequence[str], separator: str) -> tuple[bool, int]:
    """(whether the first rows have the cells of the header, number of these), the better the greater."""
    rows = []
    try:
        for row in islice(csv.reader(lines, delimiter=separator, strict=True), _SAMPLE_ROWS):
            rows.append(len(row))
    except csv.Error:  # at the end of the sample, or of quotes that belong to another separator
        pass
    lengths = Counter(length for length in rows if length)
    return len(lengths) == 1 and rows[0] > 1, rows[0] if rows else 0


def csv_rows(stream: TextIO, file: str, separator: str) -> Iterator[Row]:
    """The rows below the header.

    Args:
        stream: The text, its ends of lines as they are.
        file: Its name, for messages.
        separator: What separates the cells.

    Raises:
        ConfigError: quotes that do not match, a row of another length than the header, or a column that comes twice.
    """
    header: list[str] | None = None
    for number, cells in _records(stream, file, separator):
        if header is not None:
            yield Row(file, "line", number, _named(header, cells, file, number))
        elif not (number == 1 and cells[0].lower() == "sep="):
            header = _header(cells, file)


def _records(lines: Iterable[str], file: str, separator: str) -> Iterator[Record]:
    """(number of the first line, cells) of each record that is not empty."""
    csv.field_size_limit(sys.maxsize)  # 128 KiB by default
    reader = csv.reader(lines, delimiter=separator, strict=True)
    first = 1
    try:
        for cells in reader:
            if cells:
                yield first, cells
            first = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(
            f"workload.path={file}, line {first}: quotes do not match ({error}): put a text that holds quotes into "
            'quotes, and double those within ("")'
        ) from error


def _header(cells: Sequence[str], file: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, number in Counter(filter(None, names)).items() if number > 1]
    if twice:
        raise ConfigError(f"workload.path={file} has the column {twice[0]!r} twice: rename one")
    return names


def _named(header: Sequence[str], cells: list[str], file: str, number: int) -> dict[str, str]:
    if len(cells) < len(header) or any(cells[len(header) :]):
        raise ConfigError(
            f"workload.path={file}, line {number} has {len(cells)} cells and the header {len(header)}: "
            f"{cells[-1][:60]!r} is the last; put texts that hold a separator into quotes"
        )
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def text_rows(stream: TextIO, file: str) -> Iterator[Row]:
    """The lines of a text that are not empty, each a prompt."""
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield Row(file, "line", number, {"prompt": line.rstrip("\r\n")})
