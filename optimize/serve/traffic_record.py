"""The record of what a served engine sees: its histograms once a minute, in two files of bounded size."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from optimize.engine.traffic import parse_traffic, record_files

_EVERY_S = 60.0
_FILE_MAX_BYTES = 16 * 2**20
"""A week of readings or more; the file before it is kept too."""


class TrafficRecord:
    """Appends a reading each minute, and starts the file anew where it has become too large.

    Args:
        folder: Folder of the files.
        clock: Unix time.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._older, self._path = record_files(folder)
        self._clock, self._last = clock, -math.inf

    def take(self, exposition: str) -> None:
        """Take in what the engine's /metrics has answered; most answers come too soon after the last, and are left.

        Raises:
            OSError: it cannot be written.
            ValueError: it is no exposition of metrics.
        """
        now = self._clock()
        if 0 <= now - self._last < _EVERY_S:
            return
        self._last = now
        traffic = parse_traffic(exposition, now)
        if traffic.histograms:
            self._append(json.dumps(traffic.to_dict()))

    def _append(self, line: str) -> None:
        if self._path.exists() and self._path.stat().st_size > _FILE_MAX_BYTES:
            self._path.replace(self._older)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # the line break comes first: it ends a line that was cut off
