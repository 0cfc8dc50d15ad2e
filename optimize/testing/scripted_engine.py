"""Engines without processes, on a virtual clock, and what is sampled of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from objectives import MemoryParts
from optimize.engine.base import Endpoint, Engine, EngineConfig
from optimize.errors import EngineFailure, FailureKind, OptimizeError
from optimize.evaluation.interference import Machine
from optimize.testing.scripted_load import VirtualClock

_REPORTED = {"dtype": "bfloat16"}
"""Flag -> value that a scripted engine runs with."""


class ScriptedEngine:
    """An engine without a process.

    Args:
        clock: The clock.
        dies_at: The clock when it dies.

    Attributes:
        resets: How often it was reset.
    """

    endpoint = Endpoint("http://scripted", None, "model")
    pids: Sequence[int] = ()

    def __init__(self, clock: VirtualClock, dies_at: float = float("inf")) -> None:
        self._clock, self._dies_at = clock, dies_at
        self.resets = 0

    def check(self) -> None:
        if self._clock.now() >= self._dies_at:
            raise EngineFailure(FailureKind.CRASH, "died")

    def reset(self) -> None:
        self.resets += 1

    def memory(self) -> MemoryParts | None:
        return None

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: _REPORTED[name] for name in names if name in _REPORTED}

    def stop(self) -> None: ...


class ScriptedLauncher:
    """Launches scripted engines.

    Args:
        clock: The clock.
        start_s: Seconds that a start takes.
        failures: Quantization -> the error of its start.

    Attributes:
        engines: Every engine that it launched.
        next_dies_at: The clock when the engines that it launches from now on die.
    """

    request_knobs_only = False

    def __init__(
        self, clock: VirtualClock, start_s: float = 2.0, failures: Mapping[str, OptimizeError] | None = None
    ) -> None:
        self._clock, self._start_s, self._failures = clock, start_s, failures or {}
        self.engines: list[ScriptedEngine] = []
        self.next_dies_at = float("inf")

    def preflight(self, flag_names: Sequence[str]) -> None: ...

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        return {}

    def report_cached_tokens(self) -> None: ...

    def prepare(self) -> None: ...

    def close(self) -> None: ...

    def version(self) -> str:
        return "scripted (no measurement)"

    def deploy_command(self, config: EngineConfig) -> str:
        return ""

    def launch(self, config: EngineConfig, log_path: Path) -> Engine:
        self._clock.sleep(self._start_s)
        log_path.write_text(f"starting {config.quantization}\n", encoding="utf-8")
        if config.quantization in self._failures:
            raise self._failures[config.quantization]
        self.engines.append(ScriptedEngine(self._clock, self.next_dies_at))
        return self.engines[-1]


class ScriptedTelemetry:
    """Telemetry in which each series stands at one value.

    Args:
        clock: The clock.
        values: Name of a series -> its value.
    """

    def __init__(self, clock: VirtualClock, values: Mapping[str, float] | None = None) -> None:
        self._clock, self._values = clock, values or {}

    def __call__(self, engine: Engine, machine: Machine | None) -> ScriptedTelemetry:
        return self

    @contextmanager
    def sampling(self) -> Iterator[ScriptedTelemetry]:
        yield self

    def series(self, began_at: float) -> dict[str, list[tuple[float, float]]]:
        seconds = range(int(self._clock.now() - began_at) + 1)
        return {name: [(float(second), value) for second in seconds] for name, value in self._values.items()}
