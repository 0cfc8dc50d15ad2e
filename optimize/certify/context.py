"""The context of one fault on a live engine under load: its resources, its notes, and when it was detected."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from optimize.certify.testbed import Setup, SupervisedEngine, Testbed
from optimize.errors import TransientFault
from optimize.load.client_pool import LoadRun

MEMORY, DISK, CHECKPOINT = "memory", "disk", "checkpoint"


@dataclass
class FaultContext:
    """Context of a fault under way.

    Attributes:
        testbed: The testbed of all runs.
        engine: The engine and its front.
        load: The load through the front.
        rate_per_s: Arrivals per second before the fault.
        mitigated: Whether the mitigation is in place.
        resources: Resources that the setup made, e.g. the control group.
        notes: Remarks about this run for the certificate.
        injected_at: `time.monotonic()` of the fault; a fault that takes effect gradually moves it.
    """

    testbed: Testbed
    engine: SupervisedEngine
    load: LoadRun
    rate_per_s: float
    mitigated: bool
    resources: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    injected_at: float = 0.0
    _timers: list[threading.Timer] = field(default_factory=list)
    _errors: list[Exception] = field(default_factory=list)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action while the load continues; `end` waits for it, and raises what it raises."""

        def run() -> None:
            try:
                action()
            except Exception as error:
                self._errors.append(error)

        timer = threading.Timer(seconds, run)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def end(self) -> None:
        """Wait for all actions.

        Raises:
            TransientFault: one of them failed, so the fault was not the one that the scenario names.
        """
        for timer in self._timers:
            timer.join()
        for error in self._errors:
            raise TransientFault(f"the fault was not carried out: {type(error).__name__}: {error}") from error

    def processes(self) -> list[psutil.Process]:
        """Processes of the engine that serves."""
        current = self.engine.supervisor.current
        assert current is not None
        return [psutil.Process(pid) for pid in current.engine.pids]

    # -- detection by the supervision, in seconds after the fault

    def restart_detected_s(self) -> float | None:
        times = [r.detected_s for r in self.engine.supervisor.restarts.own if r.detected_s >= self.injected_at]
        return min(times) - self.injected_at if times else None

    def missed_probe_s(self) -> float | None:
        times = [at for at in self.engine.supervisor.missed_probes if at >= self.injected_at]
        return min(times) - self.injected_at if times else self.restart_detected_s()

    def pressure_s(self) -> float | None:
        """First probe that shows a full KV cache, a preemption, or waiting requests."""
        before = [f.get("preemptions", 0.0) for at, f in self.engine.metrics if at < self.injected_at]
        preempted = before[-1] if before else 0.0
        for at, metrics in self.engine.metrics:
            full = metrics.get("kv_cache_use", 0.0) >= 0.95 or metrics.get("requests_waiting", 0.0) > 0
            if at >= self.injected_at and (full or metrics.get("preemptions", 0.0) > preempted):
                return at - self.injected_at
        return None

    def event_s(self) -> float | None:
        """The event that the fault itself recorded as `resources["detected_at"]`."""
        at = self.resources.get("detected_at")
        return None if at is None else float(at) - self.injected_at


SetupFactory = Callable[[Testbed, bool, dict[str, Any]], AbstractContextManager[Setup]]


@dataclass(frozen=True)
class Scenario:
    """A fault and its mitigation.

    Attributes:
        name: Name on the command line.
        title: Name in the certificate.
        setup_of: Makes the setup of a run, and may add resources for `inject` to the dictionary.
        inject: Does the damage.
        detected_s: Seconds from the fault until the supervision detected it.
        mitigation: The mitigation, in words; None where only the bare fault is measured.
        rate_share: Arrivals before the fault, as a share of the usual rate.
        watch_s: Least seconds of load after the fault.
    """

    name: str
    title: str
    setup_of: SetupFactory
    inject: Callable[[FaultContext], None]
    detected_s: Callable[[FaultContext], float | None]
    mitigation: str | None = None
    rate_share: float = 1.0
    watch_s: float = 0.0


def now() -> float:
    """The clock of all durations: it counts on evenly when somebody sets the time of day."""
    return time.monotonic()


def drop_page_cache(folder: Path) -> None:
    """Have the kernel drop the pages of a folder's files from its cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
