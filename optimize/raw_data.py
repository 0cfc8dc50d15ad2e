"""The raw data of a measurement as Parquet: every request of its load, and the telemetry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from objectives import RequestRecord
from optimize.redaction import redact

Series = dict[str, list[tuple[float, float]]]
"""Name of a series -> its (second, value)."""


def requests_table(records: Sequence[RequestRecord]) -> pa.Table:
    """One row per request, one column per field of `RequestRecord`."""
    names = [f.name for f in dataclasses.fields(RequestRecord)]
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in records] for name in names}
    # An answer is the model's, but what stands in its place after an error may quote a key.
    columns["text"] = [r.text if r.error is None else redact(r.text) for r in records]
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
    """Every request of a file."""
    return [RequestRecord(**row) for row in _table(path).to_pylist()]


def answers_in(path: Path) -> list[tuple[int, str]]:
    """(workload row, answer) of the requests that were answered."""
    return _answered(path, "prompt_id", "text")


def latencies_in(path: Path) -> list[tuple[float, float]]:
    """(due, latency) in seconds of the requests that were answered, by due time."""
    return sorted((due, done - due) for due, done in _answered(path, "due_s", "done_s"))


def turns_in(path: Path) -> list[RequestRecord]:
    """Every request of a file without its text; empty where no request is a later turn of a conversation."""
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name != "text"]
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
