"""A live engine instance under supervision, and the record of its failure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, OptimizeError, TransientFault
from optimize.serve.probe import Probe


@dataclass(frozen=True, slots=True)
class Instance:
    """An engine that is up.

    Attributes:
        engine: The engine.
        slot: Number of the launcher that started it.
        generation: Number of the engine, counted from 1.
        log: Its log.
        since: `time.monotonic()` when it was ready.
        probe: Its health probe.
    """

    engine: VllmEngine
    slot: int
    generation: int
    log: Path
    since: float
    probe: Probe


@dataclass(frozen=True, slots=True)
class InstanceFailure:
    """The end of an instance.

    Attributes:
        instance: The engine that ended.
        error: Why it ended, or why its latest replacement did not start.
        detected: `time.monotonic()` of the detection.
        detected_at: Unix time of the detection.
        unseen_s: Seconds between the last healthy probe and the detection.
    """

    instance: Instance
    error: OptimizeError
    detected: float
    detected_at: float
    unseen_s: float

    def with_error(self, error: OptimizeError) -> InstanceFailure:
        return replace(self, error=error)


def cause_of(instance: Instance, symptom: EngineFailure | str) -> OptimizeError:
    """The cause of a failure, from the engine's log and exit code where they name one."""
    if isinstance(symptom, EngineFailure):
        return symptom
    try:
        instance.engine.check()
    except Exception as error:  # it reads the log, which may be gone with the disk's last byte
        return as_failure(error)
    return TransientFault(symptom)


def as_failure(error: Exception) -> OptimizeError:
    """An exception as one of this project's: supervision goes on after any."""
    if isinstance(error, OptimizeError):
        return error
    return TransientFault(f"{type(error).__name__}: {error}")
