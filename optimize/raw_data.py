"""The raw data of a measurement as Parquet: every request of its load, and the telemetry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from objectives import RequestRecord
from optimize.redaction import redact

Series = dict[str, list[tuple[float, float]]]
"""Name of a series -> its (second, value)."""
_TEXT = "text"
_BATCH = 4096


def requests_table(records: Sequence[RequestRecord], texts: bool = True) -> pa.Table:
    """One row per request, one column per field of `RequestRecord`; `text` is left out where it must not be kept."""
    names = [f.name for f in dataclasses.fields(RequestRecord) if f.name != _TEXT]
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in records] for name in names}
    if texts:
        # An answer is the model's, but what stands in its place after an error may quote a key.
        columns[_TEXT] = [r.text if r.error is None else redact(r.text) for r in records]
    return pa.table(columns)


def telemetry_table(series: Mapping[str, Sequence[tuple[float, float]]]) -> pa.Table:
    """One row per sample: `name`, `time_s`, `value`."""
    points = [(name, time_s, value) for name, samples in series.items() for time_s, value in samples]
    return pa.table({key: [p[i] for p in points] for i, key in enumerate(("name", "time_s", "value"))})


def write(table: pa.Table, path: Path) -> None:
    """Write a table; whoever calls it sees that the file is written whole or not at all."""
    pq.write_table(table, path, compression="zstd")


def check(path: Path) -> None:
    """Raise an error of pyarrow's or of the system's for a file that is cut off or is no table; reads its end alone."""
    pq.ParquetFile(path).close()


def requests_in(path: Path) -> list[RequestRecord]:
    """Every request of a file; with an empty text where it was not kept."""
    return [RequestRecord(**{_TEXT: "", **row}) for row in _table(path).to_pylist()]


def has_texts(path: Path) -> bool:
    """Whether a file of requests holds their answers."""
    with pq.ParquetFile(path) as file:
        return _TEXT in file.schema_arrow.names


def rows_in(path: Path) -> int:
    """Number of rows that a file claims to hold."""
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def bytes_in(path: Path, most: int) -> int:
    """Bytes of all texts in a file, counted no further than `most`; no copy is made of a text that is stored once.

    Raises:
        ValueError: a column holds anything but numbers, truth values and texts.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        stored = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    if other := [field.name for field in schema if not _is_plain(field.type)]:
        raise ValueError(f"column {other[0]!r} is of another type")
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    size = 0 if stored <= most else stored
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        batches = file.iter_batches(_BATCH, columns=texts) if texts and size <= most else iter(())
        while size <= most and (batch := next(batches, None)) is not None:
            size += sum(map(_bytes_of, batch.columns))
    return size


def _is_plain(kind: pa.DataType) -> bool:
    of = pa.types
    return any(test(kind) for test in (of.is_integer, of.is_floating, of.is_boolean, of.is_string, of.is_null))


def _bytes_of(texts: pa.Array) -> int:
    """Bytes of texts, those that a dictionary stands for counted at each place."""
    lengths = pc.binary_length(texts.dictionary).take(texts.indices)
    return int(pc.sum(lengths).as_py() or 0)


def answers_in(path: Path) -> list[tuple[int, str]]:
    """(workload row, answer) of the requests that were answered; none where answers were not kept."""
    return _answered(path, "prompt_id", _TEXT) if has_texts(path) else []


def latencies_in(path: Path) -> list[tuple[float, float]]:
    """(due, latency) in seconds of the requests that were answered, by due time."""
    return sorted((due, done - due) for due, done in _answered(path, "due_s", "done_s"))


def turns_in(path: Path) -> list[RequestRecord]:
    """Every request of a file without its text; empty where no request is a later turn of a conversation."""
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name != _TEXT]
        if "turn" not in names or max(file.read(["turn"])["turn"].to_pylist(), default=1) == 1:
            return []
        return [RequestRecord(**row, text="") for row in file.read(names).to_pylist()]


def series_in(path: Path) -> Series:
    """The telemetry of a file."""
    series: Series = {}
    for row in _table(path).to_pylist():
        series.setdefault(row["name"], []).append((row["time_s"], row["value"]))
    return series


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path) as file:  # `read_table` takes a folder for an empty table
        return file.read(columns)


def _answered(path: Path, first: str, second: str) -> list[tuple[Any, Any]]:
    """Two columns of the requests that were answered."""
    columns = _table(path, [first, second, "error"]).to_pydict()
    return [(a, b) for a, b, error in zip(*columns.values(), strict=True) if error is None]
