"""An open loop that replays recorded arrivals."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.load.stationary import require_positive
from optimize.traces.formats import AUTO
from optimize.traces.reading import Recording, read_trace
from optimize.traces.requests import Ints, Requests, lengths_of
from optimize.traces.rows import digest
from optimize.traces.stretch import ALL, Part, shown_s, stretch
from optimize.traces.thinning import thinned

_LEAST_REQUESTS = 20
"""A window holds so many requests at least: few of them are replayed several times."""


@dataclass
class Trace:
    """Replay of recorded requests, in any of the forms of `optimize.traces.formats`.

    Where the trace holds the numbers of tokens, prompts and answers get these lengths; where it holds blocks of shared
    text, prompts share them; where it holds prompts, these are sent.

    Attributes:
        path: The file: JSONL, JSON or CSV, plain or compressed.
        speed: Speed of the replay as a multiple of the recorded one.
        format: Name of its form; "auto" tells it by the columns.
        part: The stretch that is replayed: "busiest:10min", "first:90s" or [from_s, to_s] in recorded time; null or
            "all" for the whole, which "all" asks for however long it takes.
        keep: Share of the requests that is replayed, with their bursts; see `optimize.traces.thinning`.
    """

    path: str
    speed: float = 1.0
    format: str = AUTO
    part: Part = None
    keep: float = 1.0

    def __post_init__(self) -> None:
        require_positive("speed", self.speed)
        file = Path(self.path).expanduser()
        self._hash = digest(file, self.path)
        self.recording: Recording = read_trace(file, self.path, self.format)
        part = thinned(stretch(self.recording.requests, self.part, self.path), self.keep)
        self.replay_s, self.start_s = part.span_s / self.speed, part.start_s
        self._take(part.requests)

    def _take(self, requests: Requests) -> None:
        self.requests = requests
        start_s = float(requests.offsets_s[0]) if self.part in (None, ALL) and self.keep == 1 else self.start_s
        self._offsets_s: list[float] = ((requests.offsets_s - start_s) / self.speed).tolist()
        self.rounds = math.ceil(_LEAST_REQUESTS / len(requests))

    def __getstate__(self) -> dict[str, Any]:
        """What a client process needs: when requests are due, not what they hold."""
        return {name: value for name, value in self.__dict__.items() if name not in ("recording", "requests")}

    @property
    def lengths(self) -> list[tuple[int | None, int | None]]:
        """(prompt tokens, output tokens) of each request, None where they were not recorded."""
        return lengths_of(self.requests)

    @property
    def has_contents(self) -> bool:
        """Whether more was recorded than when requests came."""
        requests = self.requests
        return any(column is not None for column in (requests.prompt_tokens, requests.output_tokens, requests.texts))

    def only(self, rows: Ints) -> Trace:
        """The trace with these of its requests alone, at their times."""
        trace = copy.copy(self)
        trace.recording = self.recording
        trace._take(self.requests.only(rows))
        return trace

    @property
    def duration_s(self) -> float:
        """Length of one replay, or of as many as it takes for a window with answers to estimate from."""
        return self.replay_s * self.rounds

    @property
    def first_rate_per_s(self) -> float:
        return len(self._offsets_s) / self.replay_s

    def due_times_s(self, seed: int) -> Iterator[float]:
        rounds = 0
        while True:
            for offset in self._offsets_s:
                yield rounds * self.replay_s + offset
            rounds += 1

    def describe(self) -> str:
        part = "" if self.part in (None, ALL) else f", {self.part}"
        keep = "" if self.keep == 1 else f", {self.keep:g} of all"
        speed = "" if self.speed == 1 else f", {self.speed:g} times as fast"
        return f"trace {Path(self.path).name} {self._hash}, {len(self._offsets_s)} requests{part}{keep}{speed}"

    @property
    def note(self) -> str:
        """What was recognised, and how much of it is replayed, in one line."""
        whole, form = self.recording.requests, self.recording.form
        empty = self.recording.empty
        return (
            f"{self.path}: {len(whole):,} requests over {shown_s(whole.span_s)} in {form.title}"
            + (f"; {empty:,} without tokens are left out" if empty else "")
            + (f"; {len(self.requests):,} of them are replayed" if len(self.requests) < len(whole) else "")
            + (f"; a measurement replays them {self.rounds} times" if self.rounds > 1 else "")
        )
