"""Rows of a data set of the Hugging Face hub, through `datasets`, which keeps them in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optimize.config.measuring import WorkloadSource
from optimize.entries import claim
from optimize.errors import ConfigError, one_line
from optimize.workload.example import Row
from optimize.workload.parquet_rows import without_padding


def hub_rows(source: WorkloadSource, folder: Path) -> Iterator[Row]:
    """The rows of a data set.

    Args:
        source: Its id, subset and split.
        folder: The cache's folder for data sets.

    Raises:
        ConfigError: it cannot be had.
    """
    for number, cells in enumerate(_data_set(source, folder), 1):
        yield Row(source.path, "row", number, {name: without_padding(cell) for name, cell in cells.items()})


def _data_set(source: WorkloadSource, folder: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()  # it logs a line of its own beside the error
    entry = _entry(source, folder)

    def load(cache: Path) -> Any:
        return datasets.load_dataset(source.path, source.subset, split=source.split, cache_dir=str(cache))

    try:
        return load(entry)
    except Exception as error:  # datasets raises a different class for every backend
        raise ConfigError(
            f"workload.path={source.path} cannot be read: {one_line(error.__cause__ or error)}"
        ) from error


def _entry(source: WorkloadSource, folder: Path) -> Path:
    """The cache's entry for a data set: that of an earlier version where there is one, since it cannot be made again
    without a network.
    """
    if (folder / source.path.replace("/", "___")).is_dir():
        return folder
    key = json.dumps([source.path, source.subset])
    return claim(folder / hashlib.sha256(key.encode()).hexdigest()[:16])
