"""Every restart, as one line of JSON in a file that is only ever appended to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Restart:
    """One end of an engine and what took its place.

    Attributes:
        generation: Number of the engine that ended; the first is 1.
        cause: Kind of the failure: crash, host_oom, refused, timeout, unresponsive, ...
        reason: The failure in words.
        how: What took over: "warm" or "cold" start, "standby"; "failed" for a restart that did not succeed.
        detected_at: Unix time when the failure was noticed.
        unseen_s: Time since the last look that found the engine well: the failure is no older than this.
        down_s: From noticing until another engine answered; of a failed restart, until it had failed.
        attempt: Of how many attempts in a row this was the last.
        backoff_s: Pause before this attempt.
        log: File name of the log of the engine that ended.
    """

    generation: int
    cause: str
    reason: str
    how: str
    detected_at: float
    unseen_s: float
    down_s: float
    attempt: int
    backoff_s: float
    log: str


class RestartLog:
    """The file; every line is whole, or the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, restart: Restart) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(restart)) + "\n")

    def read(self) -> Iterator[Restart]:
        """All restarts so far; a last line that a kill cut off is left out."""
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield Restart(**json.loads(line))
            except (ValueError, TypeError):
                continue
