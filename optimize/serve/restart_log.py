"""The log of restarts: one line of JSON each, in a file that is only appended to."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optimize.redaction import redact


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
        detected_s: `time.monotonic()` of the detection, for durations; comparable while the machine is up.
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
    detected_s: float = 0.0


class RestartLog:
    """Appends restarts to a file and reads them back; a line that a kill or a full disk cut off is passed over.

    Attributes:
        own: The restarts of this process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own: list[Restart] = []
        self._unwritten: list[Restart] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, restart: Restart) -> None:
        """Append a restart, and those before it that could not be written.

        Raises:
            OSError: it cannot be written now; it is kept, and written with the next or by `flush`.
        """
        self.own.append(restart)
        self._unwritten.append(restart)
        self.flush()

    def flush(self) -> None:
        """Append the restarts that could not be written before.

        Raises:
            OSError: they still cannot be written; they are kept.
        """
        if not self._unwritten:
            return
        with self.path.open("ab", buffering=0) as file:
            while self._unwritten:
                # The line break comes first: it ends a line that was cut off, and an empty line is no restart.
                line = b"\n" + redact(json.dumps(dataclasses.asdict(self._unwritten[0]))).encode() + b"\n"
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                del self._unwritten[0]

    def read(self) -> Iterator[Restart]:
        """All restarts so far, those that could not be written included."""
        for line in self._lines():
            try:
                yield Restart(**json.loads(line))
            except (ValueError, TypeError):
                continue
        yield from list(self._unwritten)

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # none yet, or none that can be read now
            return []
