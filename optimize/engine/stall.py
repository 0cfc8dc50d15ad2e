"""Whether a starting engine gets on: a slow start is no failure, a start that stands still is one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_CPU_SHARE = 0.01
"""Share of one processor below which a start stands still: processes that only wait for one another need less."""
_TRAFFIC_BYTES = 1 << 20
"""Reading and writing that counts: weights, kernels. Less is what waiting processes tell each other."""
_NUMBER = re.compile(r"\d+")
_LOOKS = 50
_LONGEST_LOOK_S = 5.0


class Effort(NamedTuple):
    """Work of a process tree since its beginning.

    Attributes:
        log_lines: Different lines of its log, whatever numbers stand in them: who waits says so again and again.
        cpu_s: Processor seconds of its processes and of those that they have outlived, as compilers.
        traffic_bytes: Bytes that its processes have read and written.
    """

    log_lines: int
    cpu_s: float
    traffic_bytes: int


class StallWatch:
    """Tells a start that works from one that stands still.

    Args:
        limit_s: Seconds without work after which a start counts as standing still.
        effort: Measures the work so far.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, limit_s: float, effort: Callable[[], Effort], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._effort, self._clock = limit_s, effort, clock
        self._look_s = min(_LONGEST_LOOK_S, limit_s / _LOOKS)
        self._last, self._worked_at = Effort(0, 0.0, 0), clock()
        self._next_look = self._worked_at + self._look_s

    def stalled(self) -> bool:
        """Whether it has stood still for the limit; looks at the processes from time to time."""
        now = self._clock()
        if now < self._next_look:
            return False
        self._next_look = now + self._look_s
        effort = self._effort()
        if self._has_worked(effort):
            self._last, self._worked_at = effort, now
        return now - self._worked_at >= self._limit_s

    def _has_worked(self, effort: Effort) -> bool:
        return (
            effort.log_lines > self._last.log_lines
            or abs(effort.cpu_s - self._last.cpu_s) >= _CPU_SHARE * self._limit_s  # less: a process has ended
            or abs(effort.traffic_bytes - self._last.traffic_bytes) >= _TRAFFIC_BYTES
        )


def effort_of(processes: Sequence[psutil.Process], log_path: Path) -> Effort:
    """The work of these processes; of those that have ended meanwhile, what their parents know."""
    cpu_s, traffic = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            counters = process.io_counters()
            traffic += counters.read_chars + counters.write_chars + counters.read_bytes
        except (psutil.Error, OSError):  # gone, or not to be read
            continue
    return Effort(_different_lines(log_path), cpu_s, traffic)


def _different_lines(log_path: Path) -> int:
    try:
        log = log_path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return len({_NUMBER.sub("", line) for line in log.splitlines()})
