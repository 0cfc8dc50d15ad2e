"""Launchers of supervised engines: one for each engine that may live at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from optimize.engine.base import EngineConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine

_log = logging.getLogger(__name__)

SupervisedLauncher = VllmLauncher | SimulatedLauncher
"""A fork server starts one engine at a time (see `optimize.engine.fork_server`): a standby needs its own."""


class LauncherPool:
    """A context manager that closes its launchers, but stops no engine that they started.

    Args:
        make: Makes a launcher.
        count: Number of engines that may live at a time.
    """

    def __init__(self, make: Callable[[], SupervisedLauncher], count: int = 1) -> None:
        self._make = make
        self._launchers = [make() for _ in range(count)]
        self._started_warm = [False] * count

    def __enter__(self) -> LauncherPool:
        for launcher in self._launchers:
            launcher.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        for launcher in self._launchers:
            launcher.close()

    def launch(self, slot: int, config: EngineConfig, log_path: Path, cgroups: Sequence[str] = ()) -> VllmEngine:
        """Start an engine.

        A launcher that once started warm and now had to start cold has lost its fork server, e.g. to the kernel's
        out-of-memory killer. A new launcher then takes its slot and prepares in the background for the next start.

        Args:
            slot: Number of the launcher.
            config: The configuration.
            log_path: File for the engine's output.
            cgroups: Folders of the control groups that the engine joins.

        Raises:
            EngineFailure, TransientFault: as `Launcher.launch`.
        """
        engine = self._launchers[slot].launch(config, log_path, cgroups)
        if engine.warm:
            self._started_warm[slot] = True
        elif self._started_warm[slot]:
            try:
                self._renew(slot)
            except Exception as error:  # the engine is up, and the next start is cold
                _log.warning("no fork server for the next start: %s: %s", type(error).__name__, error)
        return engine

    def _renew(self, slot: int) -> None:
        self._launchers[slot].close()
        self._launchers[slot] = self._make()
        self._launchers[slot].prepare()
