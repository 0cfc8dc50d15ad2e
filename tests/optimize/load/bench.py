"""A load of requests on a scripted server, in virtual time."""

from __future__ import annotations

import math
from typing import Any

from objectives import RequestRecord
from optimize.config.measuring import Load
from optimize.engine.base import RequestConfig
from optimize.load.arrivals import Arrivals
from optimize.load.generator import LoadControl, LoadResult, Traffic, run_load
from optimize.testing.scripted_engine import ScriptedEngine
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, ScriptedRequest, Server, VirtualClock
from optimize.workload.workload import Workload

WORKLOAD = Workload("test", ["one", "two", "three"], ["1", "2", "3"], max_tokens=5)
SETTINGS: dict[str, Any] = {
    "warmup_s": 0.5, "warmup_requests": 4, "warmup_max_s": 30.0, "window_min_s": 4.0, "window_requests": 20,
    "window_max_s": 60.0,
}  # fmt: skip


def steady(request: ScriptedRequest) -> ScriptedAnswer:
    return ScriptedAnswer(0.05)


class Bench:
    """One load on a server that follows a script.

    Args:
        server: The script.
        dies_at_s: Seconds until the engine dies.
        send_lag_s: How late the clients send.
        workload: What they send.

    Attributes:
        events: Phases and resets in the order in which they happened.
        phase_at: Phase -> the clock when it began.
    """

    def __init__(
        self, server: Server = steady, dies_at_s: float = math.inf, send_lag_s: float = 0.0,
        workload: Workload = WORKLOAD,
    ) -> None:  # fmt: skip
        self._workload = workload
        self.clock = VirtualClock()
        self.clients = ScriptedClients(self.clock, server, send_lag_s)
        self.engine = ScriptedEngine(self.clock, self.clock.now() + dies_at_s)
        self.events: list[str] = []
        self.phase_at: dict[str, float] = {}

    def run(self, arrivals: Arrivals, control: dict[str, Any] | None = None, **load: Any) -> LoadResult:
        settings = Load(arrivals=None, **{**SETTINGS, **load})
        options = {"phase": self._phase, **(control or {})}
        traffic = Traffic(self._workload, RequestConfig(), arrivals, settings)
        return run_load(self.clients, self.engine, traffic, LoadControl(clock=self.clock, **options))

    def _phase(self, name: str) -> None:
        self.phase_at[name] = self.clock.now()
        self.events.append(f"{name} after {self.engine.resets} resets")


def due_in_window(result: LoadResult) -> list[RequestRecord]:
    return [r for r in result.records if result.window_start_s <= r.due_s < result.window_end_s]


def window_s(result: LoadResult) -> float:
    return result.window_end_s - result.window_start_s
