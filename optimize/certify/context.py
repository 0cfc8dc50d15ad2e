"""One fault on one live engine under load: what it needs to know while it happens, and what it notes down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from optimize.certify.testbed import Setup, SupervisedEngine, Testbed
from optimize.load.client_pool import LoadRun

MEMORY, DISK, CHECKPOINT = "memory", "disk", "checkpoint"


@dataclass
class FaultContext:
    """A fault under way.

    Attributes:
        testbed: What all runs share.
        engine: The engine and its front.
        flow: The load through the front.
        rate_per_s: Arrivals before the fault.
        mitigated: Whether the mitigation is in place.
        props: What the arrangement made, e.g. the control group.
        notes: What is worth telling about this run, in words.
        injected_at: Unix time of the fault; one that takes a while to come about moves it.
    """

    testbed: Testbed
    engine: SupervisedEngine
    flow: LoadRun
    rate_per_s: float
    mitigated: bool
    props: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    injected_at: float = 0.0
    _timers: list[threading.Timer] = field(default_factory=list)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something while the load goes on; done at the latest when the scene ends."""
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def end(self) -> None:
        for timer in self._timers:
            timer.join()

    def processes(self) -> list[psutil.Process]:
        """Of the engine that serves."""
        current = self.engine.supervisor.current
        assert current is not None
        return [psutil.Process(pid) for pid in current.engine.pids]

    # -- when the supervision noticed, in seconds after the fault

    def restart_noticed_s(self) -> float | None:
        found = [r.detected_at for r in self.engine.supervisor.restarts.read() if r.detected_at >= self.injected_at]
        return min(found) - self.injected_at if found else None

    def missed_probe_s(self) -> float | None:
        found = [at for at in self.engine.supervisor.missed if at >= self.injected_at]
        return min(found) - self.injected_at if found else self.restart_noticed_s()

    def pressure_s(self) -> float | None:
        """First reading of a full KV cache, a preemption, or requests that wait."""
        before = [f.get("preemptions", 0.0) for at, f in self.engine.figures if at < self.injected_at]
        preempted = before[-1] if before else 0.0
        for at, figures in self.engine.figures:
            full = figures.get("kv_cache_use", 0.0) >= 0.95 or figures.get("requests_waiting", 0.0) > 0
            if at >= self.injected_at and (full or figures.get("preemptions", 0.0) > preempted):
                return at - self.injected_at
        return None

    def noted_s(self) -> float | None:
        """What the fault itself saw, as `props["noticed_at"]`."""
        at = self.props.get("noticed_at")
        return None if at is None else float(at) - self.injected_at


Arrange = Callable[[Testbed, bool, dict[str, Any]], AbstractContextManager[Setup]]


@dataclass(frozen=True)
class Scenario:
    """A fault, and what helps against it.

    Attributes:
        name: On the command line.
        title: For people.
        arrange: Sets the run up; may put props into the dictionary for `inject`.
        inject: Does the damage.
        noticed_s: When the supervision noticed.
        mitigation: What helps, in words; None where only the bare fault is measured.
        rate_share: Arrivals before the fault, as a share of the usual.
        watch_s: Least seconds of load after the fault.
    """

    name: str
    title: str
    arrange: Arrange
    inject: Callable[[FaultContext], None]
    noticed_s: Callable[[FaultContext], float | None]
    mitigation: str | None = None
    rate_share: float = 1.0
    watch_s: float = 0.0


def now() -> float:
    return time.time()


def drop_page_cache(folder: Path) -> None:
    """Have the kernel forget what it keeps of a folder's files in memory."""
    import os

    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
