"""The rows of files, read one after the other: nothing that is written there is taken for another type."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from optimize.errors import ConfigError, one_line
from optimize.workload.csv_rows import csv_rows, separator_of, text_rows
from optimize.workload.example import Row
from optimize.workload.json_rows import json_rows
from optimize.workload.parquet_rows import parquet_rows
from optimize.workload.paths import kind_of
from optimize.workload.streams import text_of, undecodable

_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, RecursionError)


def rows_of(files: Sequence[Path], encoding: str | None = None) -> Iterator[Row]:
    """The rows of files.

    Args:
        files: The files, in order.
        encoding: Encoding of texts; None takes UTF-8, or what their first bytes show.

    Raises:
        ConfigError: a file cannot be read; names it, the place in it, and the remedy.
    """
    for file in files:
        try:
            yield from _rows_of(file, encoding)
        except UnicodeDecodeError as error:
            raise ConfigError(f"workload.path={file} cannot be read: {undecodable(file, encoding)}") from error
        except _UNREADABLE as error:
            raise ConfigError(f"workload.path={file} cannot be read: {one_line(error)}") from error


def _rows_of(file: Path, encoding: str | None) -> Iterator[Row]:
    kind, name = kind_of(file), str(file)
    if kind == "parquet":
        yield from parquet_rows(file, name)
        return
    with text_of(file, encoding, newline="" if kind in ("csv", "tsv") else None) as stream:
        if kind == "tsv":
            yield from csv_rows(stream, name, "\t")
        elif kind == "csv":
            with text_of(file, encoding, newline="") as sample:
                separator = separator_of(sample)
            yield from csv_rows(stream, name, separator)
        else:
            yield from text_rows(stream, name) if kind == "text" else json_rows(stream, name, kind == "jsonl")
