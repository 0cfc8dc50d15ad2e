"""Health probe of a live engine: whether it answers, whether it computes, how full its KV cache is.

An overloaded engine may answer no probe for long and must not be restarted for that. Silence therefore counts as a
failure only of an engine whose processes are idle or stopped, or after `serve.unanswered_max_s`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import psutil

from optimize.config.serve import Serve
from optimize.engine.http_client import client_of
from optimize.engine.metrics import parse_metrics
from optimize.engine.process import cpu_seconds
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, FailureKind

_IDLE_CORES = 0.1
_ENGINE_DEAD_STATUS = 503


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Result of one probe.

    Attributes:
        failure: Why the engine must be restarted; None while it need not be.
        healthy: Whether it answered as a healthy engine does.
        metrics: Figures of its /metrics, by the names of `optimize.engine.metrics`.
        exposition: The text of its /metrics.
    """

    failure: EngineFailure | None
    healthy: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    exposition: str = ""


class Probe:
    """Probes one engine; `close` ends it.

    Args:
        engine: The engine.
        settings: Timeouts and limits.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, engine: VllmEngine, settings: Serve, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._http = client_of(engine.endpoint, settings.probe_timeout_s)
        self._silence = Silence(settings.probe_failures, settings.unanswered_max_s)

    def close(self) -> None:
        self._http.close()

    def run(self) -> ProbeResult:
        sent_at = self._clock()
        try:
            status = self._http.get("/health").status_code
            text = self._http.get("/metrics").text
        except (httpx.HTTPError, RuntimeError):  # RuntimeError: the client was closed during the probe
            return ProbeResult(self._unanswered(sent_at), False)
        self._silence.reset()
        if status == _ENGINE_DEAD_STATUS:
            failure = EngineFailure(FailureKind.CRASH, "the API server reports that its engine is dead")
            return ProbeResult(failure, False)
        return ProbeResult(None, status == 200, parse_metrics(text), text)

    def _unanswered(self, sent_at: float) -> EngineFailure | None:
        pids = self._engine.pids
        reason = self._silence.add(sent_at, self._clock(), cpu_seconds(pids), _any_stopped(pids))
        return None if reason is None else EngineFailure(FailureKind.TIMEOUT, reason)


class Silence:
    """Consecutive probes without an answer. Pure.

    Args:
        probes_max: Number of unanswered probes that make a failure of an idle or stopped engine.
        longest_s: Seconds of silence that make a failure whatever the engine does.
    """

    def __init__(self, probes_max: int, longest_s: float) -> None:
        self._probes_max, self._longest_s = probes_max, longest_s
        self.reset()

    def reset(self) -> None:
        """The engine answered."""
        self._since: float | None = None
        self._missed, self._cpu_s, self._at = 0, 0.0, 0.0

    def add(self, sent_at: float, now: float, cpu_s: float, stopped: bool) -> str | None:
        """Count one more probe without an answer.

        Args:
            sent_at: When the probe was sent, in seconds.
            now: When it timed out, in seconds.
            cpu_s: Processor time that the engine's processes have used so far, in seconds.
            stopped: Whether one of its processes is stopped.

        Returns:
            Why the engine must be restarted, or None.
        """
        idle = self._missed > 0 and cpu_s - self._cpu_s < _IDLE_CORES * (now - self._at)
        self._since = sent_at if self._since is None else self._since
        self._missed, self._cpu_s, self._at = self._missed + 1, cpu_s, now
        silent_s = now - self._since
        if silent_s >= self._longest_s:
            return f"no probe was answered for {silent_s:.0f} s (serve.unanswered_max_s)"
        if self._missed >= self._probes_max and (stopped or idle):
            state = "one of its processes is stopped" if stopped else "it does not compute"
            return f"{self._missed} probes in {silent_s:.1f} s were not answered, and {state}"
        return None


def _any_stopped(pids: list[int]) -> bool:
    for pid in pids:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                return True
        except psutil.Error:
            continue
    return False
