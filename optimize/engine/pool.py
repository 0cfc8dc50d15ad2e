"""Engine pool: a live engine is reused while the next trial has the same engine configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optimize.engine.base import Engine, EngineConfig, Launcher
from optimize.engine.startup import LogFollower, Phase
from optimize.errors import EngineFailure, TransientFault


@dataclass(frozen=True, slots=True)
class Lease:
    """An engine lent to one trial.

    Attributes:
        engine: The live engine.
        log_path: Its log.
        reused: Whether it was already running.
        answered: Numbers of beams that it has answered with, and so has compiled kernels for; trials add theirs.
    """

    engine: Engine
    log_path: Path
    reused: bool
    answered: set[int]


class EnginePool:
    """Holds at most one live engine; a context manager that stops it at the end.

    Attributes:
        start_seconds: Phase of the last lease's start -> seconds, whether it succeeded or not; empty without a start.
    """

    def __init__(self, launcher: Launcher, log_folder: Path) -> None:
        self._launcher = launcher
        self._log_folder = log_folder
        self._live: tuple[str, Engine, Path, set[int]] | None = None
        self.start_seconds: dict[str, float] = {}

    def __enter__(self) -> EnginePool:
        self._launcher.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._launcher.close()

    @contextmanager
    def lease(self, config: EngineConfig, phase: Phase = lambda _: None) -> Iterator[Lease]:
        """Lend an engine of this configuration; an engine that fails during the lease is stopped and not lent again.

        Args:
            config: The configuration.
            phase: Called with each phase of a start as it begins.

        Raises:
            EngineFailure, TransientFault: as `Launcher.launch`.
        """
        reused = self._live is not None and self._live[0] == config.key
        self.start_seconds = {}
        if not reused:
            self.close()
            self._start(config, phase)
        assert self._live is not None
        _, engine, log_path, answered = self._live
        try:
            engine.reset()
            yield Lease(engine, log_path, reused, answered)
        except (EngineFailure, TransientFault, KeyboardInterrupt):
            self.close()
            raise

    def _start(self, config: EngineConfig, phase: Phase) -> None:
        log_path = self._new_log(config)
        follower = LogFollower(log_path, phase)
        try:
            with follower:
                engine = self._launcher.launch(config, log_path)
        finally:
            self.start_seconds = follower.seconds
        self._live = (config.key, engine, log_path, set())

    def is_live(self, config: EngineConfig) -> bool:
        return self._live is not None and self._live[0] == config.key

    def last_log(self) -> Path | None:
        """The log of the engine started last, whether it lives or not."""
        logs = sorted(self._log_folder.glob("*.log"))
        return logs[-1] if logs else None

    def _new_log(self, config: EngineConfig) -> Path:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self._log_folder.glob("*.log")))
        return self._log_folder / f"{number:04d}-{config.key}.log"

    def close(self) -> None:
        """Stop the live engine, if any."""
        if self._live is not None:
            engine = self._live[1]
            self._live = None
            engine.stop()
