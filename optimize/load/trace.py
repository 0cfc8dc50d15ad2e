"""An open loop that replays recorded arrivals."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.errors import ConfigError
from optimize.load.stationary import require_positive

_LENGTHS = ("prompt_tokens", "output_tokens")


@dataclass
class Trace:
    """Replay of recorded requests: a JSONL file with `offset_s` in every line, in any order.

    Where lines also hold `prompt_tokens` or `output_tokens`, prompts and answers get these lengths.

    Attributes:
        path: The file.
        speed: Speed of the replay as a multiple of the recorded one.
    """

    path: str
    speed: float = 1.0

    def __post_init__(self) -> None:
        require_positive("speed", self.speed)
        raw = _read(Path(self.path).expanduser(), self.path)
        lines = [_recorded(line, number, self.path) for number, line in enumerate(raw.splitlines(), 1) if line.strip()]
        lines.sort(key=lambda recorded: recorded[0])
        if len(lines) < 2 or lines[-1][0] == lines[0][0]:
            raise ConfigError(f"load.arrivals.path={self.path} must hold at least two arrivals at different times")
        self._offsets_s = [(offset - lines[0][0]) / self.speed for offset, _, _ in lines]
        self.lengths: list[tuple[int | None, int | None]] = [(prompt, output) for _, prompt, output in lines]
        for part, name in enumerate(_LENGTHS):
            if len({lengths[part] is None for lengths in self.lengths}) > 1:
                raise ConfigError(
                    f"load.arrivals.path={self.path} has {name} in some lines only: give it in all or none"
                )
        self._hash = hashlib.sha256(raw.encode()).hexdigest()[:12]

    @property
    def has_lengths(self) -> bool:
        return self.lengths[0] != (None, None)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last, plus the mean gap."""
        return self._offsets_s[-1] * len(self._offsets_s) / (len(self._offsets_s) - 1)

    @property
    def first_rate_per_s(self) -> float:
        return len(self._offsets_s) / self.duration_s

    def due_times_s(self, seed: int) -> Iterator[float]:
        rounds = 0
        while True:
            for offset in self._offsets_s:
                yield rounds * self.duration_s + offset
            rounds += 1

    def describe(self) -> str:
        speed = "" if self.speed == 1 else f", {self.speed:g} times as fast"
        return f"trace {Path(self.path).name} {self._hash}, {len(self._offsets_s)} requests{speed}"


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"load.arrivals.path={setting} cannot be read ({error}): give a JSONL file") from error


def _recorded(line: str, number: int, path: str) -> tuple[float, int | None, int | None]:
    try:
        row: Any = json.loads(line)
        offset, lengths = float(row["offset_s"]), [row.get(name) for name in _LENGTHS]
        if not math.isfinite(offset) or not all(n is None or (isinstance(n, int) and n >= 1) for n in lengths):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"load.arrivals.path={path}, line {number}: must be an object with a number offset_s and, if at all, whole "
            f"numbers {' and '.join(_LENGTHS)} from 1, got {line[:60]!r}"
        ) from None
    return offset, lengths[0], lengths[1]
