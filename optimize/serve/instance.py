"""An engine that is up, and how one ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optimize.engine.vllm import VllmEngine
from optimize.errors import EngineFailure, OptimizeError, TransientFault
from optimize.serve.probe import Probe


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that is up.

    Attributes:
        engine: The engine.
        slot: The starter that started it.
        generation: Number of the engine, counted from 1.
        log: Its log.
        since: `time.monotonic()` when it was ready.
        probe: Asks it.
    """

    engine: VllmEngine
    slot: int
    generation: int
    log: Path
    since: float
    probe: Probe


@dataclass(frozen=True, slots=True)
class End:
    """How an engine ended, and when that was noticed."""

    running: Running
    failure: OptimizeError
    detected: float
    detected_at: float
    unseen_s: float

    def because(self, error: OptimizeError) -> End:
        return End(self.running, error, self.detected, self.detected_at, self.unseen_s)


def cause_of(old: Running, found: EngineFailure | str) -> OptimizeError:
    """The failure as the engine's log and exit code tell it."""
    if isinstance(found, EngineFailure):
        return found
    try:
        old.engine.check()
    except (EngineFailure, TransientFault) as failure:
        return failure
    return TransientFault(found)
