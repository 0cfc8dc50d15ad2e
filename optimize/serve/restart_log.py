"""The log of restarts: one line of JSON each, in a file that is only appended to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Restart:
    """The failure of one engine and its replacement.

    Attributes:
        generation: Number of the engine that failed; the first is 1.
        cause: Kind of the failure: crash, host_oom, refused, timeout, unresponsive, ...
        reason: The failure in words.
        how: The replacement: "warm" or "cold" start, or "standby"; "failed" for a restart that did not succeed.
        detected_at: Unix time of the detection.
        unseen_s: Seconds between the last healthy probe and the detection: the failure is no older than this.
        down_s: Seconds from the detection until another engine answered; of a failed restart, until it had failed.
        attempt: Number of this attempt, counted from 1 for each failure.
        backoff_s: Pause before this attempt.
        log: File name of the failed engine's log.
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
    """Appends restarts to a file and reads them back; only the last line can be incomplete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, restart: Restart) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(restart)) + "\n")

    def read(self) -> Iterator[Restart]:
        """All restarts so far, without a last line that a kill cut off."""
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield Restart(**json.loads(line))
            except (ValueError, TypeError):
                continue
