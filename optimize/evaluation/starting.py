"""The machine while an engine starts: a start that fails or stands still beside other programs is to say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from types import TracebackType
from typing import Protocol, Self

import psutil

from optimize.config.measuring import Guard
from optimize.errors import EngineFailure
from optimize.evaluation.interference import Counters, Machine, exceeded, read_counters
from optimize.ticker import Ticking

_PERIOD_S = 1.0


class Watch(Protocol):
    """Watches the machine from its beginning to its end; a context manager."""

    def disturbances(self, guard: Guard) -> list[str]:
        """Disturbances so far beyond the limits of the guard, in words."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class StartWatch(Ticking):
    """Reads the machine every second; a context manager.

    Args:
        machine: What is read; None for one on which all that this process has started is its own, for an engine's
            processes are not known before it has started.
    """

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or Machine(tuple, _counters)
        self._samples: dict[str, list[float]] = defaultdict(list)
        super().__init__(self.sample, _PERIOD_S, "watching the machine during a start")

    def sample(self) -> None:
        """Read it once."""
        for name, value in self._machine.sample().items():
            self._samples[name].append(value)

    def disturbances(self, guard: Guard) -> list[str]:
        return exceeded({name: fmean(values) for name, values in self._samples.items()}, guard)


@contextmanager
def watched(guard: Guard, watch: Watch | None = None) -> Iterator[None]:
    """Have the failure of a start know what disturbed the machine meanwhile.

    Args:
        guard: What disturbs.
        watch: Watches the machine; a `StartWatch` if none is given.
    """
    with watch or StartWatch() as observer:
        try:
            yield
        except EngineFailure as failure:
            failure.disturbances = tuple(observer.disturbances(guard))
            raise


def _counters(cpus: Sequence[int], pids: Sequence[int]) -> Counters:
    return {**read_counters(cpus, pids), "own": descendants_s()}


def descendants_s() -> float:
    """Processor seconds of this process and of all below it, those included that have ended and were waited for."""
    this = psutil.Process()
    return sum(map(_seconds_of, (this, *this.children(recursive=True))))


def _seconds_of(process: psutil.Process) -> float:
    try:
        times: Mapping[str, float] = process.cpu_times()._asdict()
    except psutil.Error:
        return 0.0
    return sum(times.get(name, 0.0) for name in ("user", "system", "children_user", "children_system"))
