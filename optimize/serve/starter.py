"""Starts supervised engines, each with a number and a log of its own, and stops them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from optimize.config.serve import Serve
from optimize.engine.base import EngineConfig
from optimize.serve.instance import Instance
from optimize.serve.launchers import LauncherPool
from optimize.serve.probe import Probe
from optimize.serve.reporter import Reporter


class Starter:
    """Starts and stops engines; several threads may do so at a time, each in a slot of its own.

    Args:
        launchers: Start the engines.
        settings: Timeouts of their probes.
        folder: Folder of their logs.
        reporter: Receives what fails while one is stopped.
        cgroups: Folders of the control groups that every engine joins.
    """

    def __init__(
        self, launchers: LauncherPool, settings: Serve, folder: Path, reporter: Reporter, cgroups: Sequence[str]
    ) -> None:  # fmt: skip
        self._launchers, self._settings, self._folder = launchers, settings, folder
        self._reporter, self._cgroups = reporter, tuple(cgroups)
        self._started, self._lock = 0, threading.Lock()

    def start(self, slot: int, config: EngineConfig) -> Instance:
        """Start an engine and wait until it is ready.

        Raises:
            EngineFailure, TransientFault: as `Launcher.launch`.
        """
        with self._lock:
            self._started += 1
            generation = self._started
        log = self._folder / f"engine-{generation:04d}.log"
        engine = self._launchers.launch(slot, config, log, self._cgroups)
        return Instance(engine, slot, generation, log, time.monotonic(), Probe(engine, self._settings))

    def stop(self, instance: Instance) -> None:
        """Stop every process of an engine; a fault is reported."""
        self._reporter.attempt("closing a probe", instance.probe.close)
        self._reporter.attempt(f"stopping engine {instance.generation}", instance.engine.stop)
