"""Launchers for supervised engines: one for each engine that may live at a time, renewed where it can be warm again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from optimize.engine.base import EngineConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm import VllmEngine, VllmLauncher

Starter = VllmLauncher | SimulatedLauncher
"""A preloaded process forks one engine at a time (see `optimize.engine.fork_server`): a standby needs its own."""


class Starters:
    """A context manager that ends the launchers, but no engine that they started.

    Args:
        make: Makes a launcher.
        count: Engines that may live at a time.
    """

    def __init__(self, make: Callable[[], Starter], count: int = 1) -> None:
        self._make = make
        self._starters = [make() for _ in range(count)]
        self._was_warm = [False] * count

    def __enter__(self) -> Starters:
        for starter in self._starters:
            starter.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        for starter in self._starters:
            starter.close()

    @property
    def all(self) -> Sequence[Starter]:
        return self._starters

    def launch(self, slot: int, config: EngineConfig, log_path: Path) -> VllmEngine:
        """Start an engine; raises as `Launcher.launch`.

        One that could start warm before and had to start cold has lost its preloaded process, e.g. to the kernel's
        out-of-memory killer: another one is prepared in the background, for the next time.
        """
        engine = self._starters[slot].launch(config, log_path)
        if engine.warm:
            self._was_warm[slot] = True
        elif self._was_warm[slot]:
            self._starters[slot].close()
            self._starters[slot] = self._make()
            self._starters[slot].prepare()
        return engine
