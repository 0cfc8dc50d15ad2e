"""Looks at a living engine: does it answer, does it compute, how full is its KV cache?

An engine under more load than it can take may answer no probe for long, and must not be restarted for that. So silence
counts as a failure only of an engine whose processes stand still, or after very long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import psutil

from optimize.config.serve import Serve
from optimize.engine.metrics import parse_metrics
from optimize.engine.process import cpu_seconds
from optimize.engine.vllm import VllmEngine
from optimize.errors import EngineFailure, FailureKind

_IDLE_CORES = 0.1
_SAYS_IT_IS_DEAD = 503


@dataclass(frozen=True, slots=True)
class Look:
    """What one probe saw.

    Attributes:
        failure: Why the engine is to be restarted; None where it is not, or not yet.
        well: Whether it answered as a healthy engine does.
        figures: Of its /metrics, by the names of `optimize.evaluation.telemetry`.
    """

    failure: EngineFailure | None
    well: bool
    figures: Mapping[str, float] = field(default_factory=dict)


class Probe:
    """Probes one engine; `close` when done.

    Args:
        engine: The engine.
        settings: Timeouts and limits.
        clock: Monotonic seconds.
    """

    def __init__(self, engine: VllmEngine, settings: Serve, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._settings, self._clock = engine, settings, clock
        self._http = httpx.Client(
            base_url=engine.endpoint.base_url, headers=engine.endpoint.headers, timeout=settings.probe_timeout_s
        )
        self._silence = Silence(settings.probe_failures, settings.unanswered_max_s)

    def close(self) -> None:
        self._http.close()

    def look(self) -> Look:
        asked_at = self._clock()
        try:
            status = self._http.get("/health").status_code
            text = self._http.get("/metrics").text
        except (httpx.HTTPError, RuntimeError):  # RuntimeError: closed while it was asking
            return Look(self._unanswered(asked_at), False)
        self._silence.end()
        if status == _SAYS_IT_IS_DEAD:
            return Look(EngineFailure(FailureKind.CRASH, "the API server says that its engine is dead"), False)
        return Look(None, status == 200, parse_metrics(text))

    def _unanswered(self, asked_at: float) -> EngineFailure | None:
        pids = self._engine.pids
        still = _stopped(pids)
        found = self._silence.add(asked_at, self._clock(), cpu_seconds(pids), still)
        return None if found is None else EngineFailure(FailureKind.TIMEOUT, found)


class Silence:
    """Probes without an answer, in a row. Pure.

    Args:
        enough: How many make a failure of an engine that does not compute.
        longest_s: Silence that is a failure whatever the engine does.
    """

    def __init__(self, enough: int, longest_s: float) -> None:
        self._enough, self._longest_s = enough, longest_s
        self.end()

    def end(self) -> None:
        """It answered."""
        self._since: float | None = None
        self._missed, self._cpu_s, self._at = 0, 0.0, 0.0

    def add(self, asked_at: float, now: float, cpu_s: float, still: bool) -> str | None:
        """One more probe without an answer.

        Args:
            asked_at: When the probe was sent.
            now: When it was given up.
            cpu_s: Processor time of the engine's processes so far.
            still: Whether one of them is stopped.

        Returns:
            Why the engine is to be restarted, or None.
        """
        idle = self._missed > 0 and cpu_s - self._cpu_s < _IDLE_CORES * (now - self._at)
        self._since = asked_at if self._since is None else self._since
        self._missed, self._cpu_s, self._at = self._missed + 1, cpu_s, now
        silent_s = now - self._since
        if silent_s >= self._longest_s:
            return f"no probe was answered for {silent_s:.0f} s (serve.unanswered_max_s)"
        if self._missed >= self._enough and (still or idle):
            how = "one of its processes is stopped" if still else "it does not compute"
            return f"{self._missed} probes in {silent_s:.1f} s were not answered, and {how}"
        return None


def _stopped(pids: list[int]) -> bool:
    for pid in pids:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                return True
        except psutil.Error:
            continue
    return False
