"""Rows of Parquet, read batch by batch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optimize.errors import ConfigError, one_line
from optimize.workload.example import Row
from optimize.workload.streams import unpacked

MAGIC = b"PAR1"
_ROWS_TOGETHER = 256


def parquet_rows(path: Path, file: str) -> Iterator[Row]:
    """The rows of a Parquet file.

    Structures of one column have the same keys in every row, empty ones filled with null: those are left out again.

    Raises:
        ConfigError: it is no Parquet file, or a damaged one.
    """
    import pyarrow as pa  # loaded here, where a file needs it
    import pyarrow.parquet as pq

    number = 0
    try:
        with unpacked(path) as stream:
            whole = stream if stream.seekable() else io.BytesIO(stream.read())
            for batch in pq.ParquetFile(whole).iter_batches(batch_size=_ROWS_TOGETHER):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(file, "row", number, {name: without_padding(cell) for name, cell in cells.items()})
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            f"workload.path={file} cannot be read as Parquet, after row {number}: {one_line(error)}"
        ) from error


def without_padding(cell: Any) -> Any:
    """A cell without the keys that are null in it, at any depth."""
    if isinstance(cell, dict):
        return {name: without_padding(value) for name, value in cell.items() if value is not None}
    return [without_padding(value) for value in cell] if isinstance(cell, list) else cell
