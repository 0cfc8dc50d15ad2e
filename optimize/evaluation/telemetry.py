"""Samples of an engine's own metrics (/metrics) and of its processor time during a load."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Protocol

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.http_client import client_of
from optimize.engine.metrics import parse_metrics
from optimize.engine.process import cpu_seconds
from optimize.evaluation.interference import Machine
from optimize.ticker import Ticker

PERIOD_S = 0.5
_TIMEOUT_S = 5.0

Series = dict[str, list[tuple[float, float]]]


class Observed(Protocol):
    """The object that is sampled: an engine, or a front of engines."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def pids(self) -> Sequence[int]: ...


class Sampler(Protocol):
    """Samples for the duration of a load."""

    def sampling(self) -> AbstractContextManager[Sampler]: ...

    def series(self, began_at: float) -> Series:
        """The samples so far, in seconds since `began_at`."""


class Telemetry:
    """A sampler in a thread of its own; times are `time.monotonic()`. A sample that fails costs no later one.

    Args:
        engine: The engine, or a front of engines.
        machine: Read as well; None reads the engine alone.
    """

    def __init__(self, engine: Observed, machine: Machine | None = None) -> None:
        self._engine, self._machine = engine, machine
        self._samples: Series = defaultdict(list)
        self._last_cpu: tuple[float, float] | None = None

    @contextmanager
    def sampling(self) -> Iterator[Telemetry]:
        with client_of(self._engine.endpoint, _TIMEOUT_S) as http:
            ticker = Ticker(partial(self._sample, http), PERIOD_S, "sampling the engine")
            ticker.start()
            try:
                yield self
            finally:
                ticker.stop()

    def series(self, began_at: float) -> Series:
        """The samples, in seconds since `began_at`."""
        return {name: [(t - began_at, v) for t, v in points] for name, points in list(self._samples.items())}

    def _sample(self, http: httpx.Client) -> None:
        with ExitStack() as parts:  # each is read, the last first, whatever becomes of the others
            parts.callback(self._sample_metrics, http)
            parts.callback(self._sample_machine)
            parts.callback(self._sample_cpu)

    def _sample_cpu(self) -> None:
        pids = self._engine.pids
        if not pids:
            return
        now, cpu_s = time.monotonic(), cpu_seconds(pids)
        if self._last_cpu is not None and cpu_s >= self._last_cpu[1]:
            self._samples["cpu_cores"].append((now, (cpu_s - self._last_cpu[1]) / (now - self._last_cpu[0])))
        self._last_cpu = (now, cpu_s)

    def _sample_machine(self) -> None:
        if self._machine is not None:
            self._add(self._machine.sample())

    def _add(self, readings: Mapping[str, float]) -> None:
        now = time.monotonic()
        for name, value in readings.items():
            self._samples[name].append((now, value))

    def _sample_metrics(self, http: httpx.Client) -> None:
        with suppress(httpx.HTTPError):  # the load reports an engine that died; a remote one may have no /metrics
            self._add(parse_metrics(http.get("/metrics").text))
