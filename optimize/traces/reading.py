"""Reading a trace: the requests in a file of any of the forms of `optimize.traces.formats`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from optimize.errors import ConfigError
from optimize.traces.formats import Format, format_of, key_of
from optimize.traces.requests import Ints, Requests, Text
from optimize.traces.rows import rows_of

_LOOKED_AT = 100
_SHOWN = 80


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        requests: Its requests in the order of time.
        form: The form that it was read as.
        empty: Requests that were left out because their prompt or their answer has no tokens.
    """

    requests: Requests
    form: Format
    empty: int = 0


def read_trace(path: Path, setting: str, name: str) -> Recording:
    """Read a trace.

    Args:
        path: The file.
        setting: The file's name in messages.
        name: Name of its form, or "auto".

    Raises:
        ConfigError: it cannot be read, has no form that is known, or a row has no time or a length that is none.
    """
    rows = rows_of(path, setting)
    first = list(itertools.islice(rows, _LOOKED_AT))
    if not first:
        raise ConfigError(f"load.arrivals.path={setting} holds no requests: give a trace in JSONL or CSV")
    columns = list(dict.fromkeys(column for _, row in first for column in row))
    form = format_of(name, columns, setting)
    columns_read = _Columns(setting, form, {key_of(column): column for column in columns})
    for number, row in itertools.chain(first, rows):
        columns_read.add(number, row)
    return columns_read.recording()


@dataclass
class _Columns:
    """The columns of the rows so far."""

    setting: str
    form: Format
    names: Mapping[str, str]
    offsets_s: list[float] = field(default_factory=list)
    lengths: tuple[list[int | None], list[int | None]] = field(default_factory=lambda: ([], []))
    sessions: list[str | None] = field(default_factory=list)
    blocks: list[tuple[int, ...]] = field(default_factory=list)
    texts: list[Text | None] = field(default_factory=list)
    empty: int = 0
    _last_s: dict[str, float] = field(default_factory=dict)
    _actual: dict[str, str] = field(default_factory=dict)

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        session = self._cell(row, self.form.session)
        try:
            offset_s = self._offset_s(row, session)
            prompt, output = (_length(self._cell(row, name)) for name in (self.form.prompt, self.form.output))
            blocks = _blocks(self._cell(row, self.form.blocks))
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"load.arrivals.path={self.setting}, line {number}: {error} in {dict(row)!r:.{_SHOWN}}; a row of "
                f"{self.form.title} needs a time in {self.form.time} and whole numbers of tokens"
            ) from None
        if 0 in (prompt, output):
            self.empty += 1
            return
        self.offsets_s.append(offset_s)
        self.lengths[0].append(prompt)
        self.lengths[1].append(output)
        if self.form.session:
            self.sessions.append(None if session in (None, "") else str(session))
        if self.form.blocks:
            self.blocks.append(blocks)
        if self.form.text:
            self.texts.append(next((cell for name in self.form.text if (cell := self._cell(row, name))), None))

    def _cell(self, row: Mapping[str, Any], name: str) -> Any:
        return row.get(self._column(name)) if name else None

    def _column(self, name: str) -> str:
        """A column's name in this file."""
        if name not in self._actual:
            self._actual[name] = self.names.get(key_of(name), name)
        return self._actual[name]

    def _offset_s(self, row: Mapping[str, Any], session: Any) -> float:
        """When a request came: at its time, or a pause after the request before it in its session."""
        time, delay = self._cell(row, self.form.time), self._cell(row, self.form.delay)
        if time in (None, "") and delay is not None and session in self._last_s:
            offset_s = self._last_s[session] + float(delay) * self.form.unit_s
        else:
            offset_s = _seconds(time, self.form.unit_s)
        if session not in (None, ""):
            self._last_s[session] = offset_s
        return offset_s

    def recording(self) -> Recording:
        order = np.argsort(np.array(self.offsets_s), kind="stable")
        requests = Requests(
            np.array(self.offsets_s, dtype=np.float64),
            self._numbers(self.lengths[0], "prompt"),
            self._numbers(self.lengths[1], "output"),
            sessions=self.sessions if any(self.sessions) else None,
            blocks=self.blocks if any(self.blocks) else None,
            texts=[text for text in self.texts if text is not None] if any(self.texts) else None,
        )
        if requests.texts is not None and len(requests.texts) != len(requests):
            raise ConfigError(f"load.arrivals.path={self.setting} has a prompt in some rows only: give all or none")
        requests = replace(requests.only(order), block_tokens=_block_tokens(requests, self.form))
        return Recording(requests, self.form, self.empty)

    def _numbers(self, column: list[int | None], name: str) -> Ints | None:
        numbers = [number for number in column if number is not None]
        if 0 < len(numbers) < len(column):
            raise ConfigError(
                f"load.arrivals.path={self.setting} has {name}_tokens in some lines only: give it in all or none"
            )
        return np.array(numbers, dtype=np.int64) if numbers else None


def _seconds(value: Any, unit_s: float) -> float:
    try:
        seconds = float(value) * unit_s
    except ValueError:
        date = datetime.fromisoformat(value)
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(f"{value!r} is no time")
    return seconds


def _length(value: Any) -> int | None:
    """A number of tokens; None of an empty cell."""
    if value is None or value == "":
        return None
    number = float(value)
    if isinstance(value, bool) or number < 0 or not number.is_integer():
        raise ValueError(f"{value!r} is no number of tokens")
    return int(number)


def _blocks(value: Any) -> tuple[int, ...]:
    if value is None or value == "":
        return ()
    if not isinstance(value, Iterable) or not all(isinstance(block, int) for block in value):
        raise ValueError(f"{value!r:.40} is no list of block numbers")
    return tuple(value)


def _block_tokens(requests: Requests, form: Format) -> int:
    """Tokens of a block: as the form has it, or where the prompts contradict that, the power of two that fits most."""
    if requests.blocks is None or requests.prompt_tokens is None:
        return form.block_tokens
    lengths = requests.prompt_tokens
    numbers = np.array([len(blocks) for blocks in requests.blocks])
    sizes: list[int] = [form.block_tokens, *(2**power for power in range(3, 13))]
    fits = {size: int(np.count_nonzero(-(-lengths // size) == numbers)) for size in sizes}
    return max(sizes, key=fits.__getitem__)
