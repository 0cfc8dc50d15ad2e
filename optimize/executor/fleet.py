"""Several workers, wherever they are: who is idle, who does what, and what is done about those that are lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from optimize.engine.base import EngineConfig
from optimize.errors import ConfigError, EngineFailure, OptimizeError, TransientFault
from optimize.executor.base import Done, Job, nothing
from optimize.executor.concurrency import ConcurrencyLimit
from optimize.executor.worker import ALIKE, Effective, JobError, Lost, Message, Ready, Rejected, Result
from optimize.ledger import TrialRecord
from optimize.outcome import Evaluation, Failed, Infeasible

_STARTS_MAX = 3
"""Starts of a worker, one after the other, that come to nothing before its slot is given up."""
Land = Callable[[TrialRecord, Mapping[str, bytes]], None]


class Transport(Protocol):
    """How workers are started and spoken to."""

    def start(self, slot: int) -> None:
        """Begin to start a slot's worker; its first word is Ready, Unfit or Lost."""

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        """Ask a worker for something; it answers with one word."""

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        """Words since the last call, at least one unless time is over."""

    def stop(self, slot: int) -> None:
        """End a worker and its engine, whatever it is doing."""

    def close(self) -> None:
        """End all of them."""


class Fleet:
    """An executor of several workers.

    A job whose worker is lost runs again elsewhere, under its own number: the sampler is told once.

    Args:
        transport: How they are reached.
        slots: How many there are to be.
        signature: What figures of this study depend on, as the driver has it.
        machine_class: The name of the class that all machines are taken to be of; None has them be alike.
        losses_max: How often a job may lose its worker before it is called failed: it may be what kills them.
        start_s: How long to wait for all of them before going on with those that are there.
        say: Told what people should know.
        land: Takes the files of a trial that ran where the driver cannot see them.
        title: What the workers are, for people.
    """

    def __init__(
        self, transport: Transport, slots: int, signature: Mapping[str, str], machine_class: str | None,
        losses_max: int, start_s: float, say: Callable[[str], None], land: Land, title: str,
    ) -> None:  # fmt: skip
        self._transport, self.slots, self._signature = transport, slots, signature
        self._class, self._losses_max, self._start_s = machine_class, losses_max, start_s
        self._say, self._land, self._title = say, land, title
        self._idle: list[int] = []
        self._jobs: dict[int, Job] = {}
        self._again: deque[Job] = deque()
        self._done: deque[Done] = deque()
        self._losses: Counter[int] = Counter()
        self._starts: Counter[int] = Counter()
        self._gone: dict[int, str] = {}
        self._asked: dict[int, Effective | JobError | Lost | None] = {}
        self._concurrency = ConcurrencyLimit(slots)
        self.machine = machine_class or ""

    def __enter__(self) -> Self:
        try:
            for slot in range(self.slots):
                self._start(slot)
            self._await_workers()
        except BaseException:
            self._transport.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def describe(self) -> str:
        return f"{self._title}: {len(self._idle) + len(self._jobs)} of {self.slots} ready, on {self.machine}"

    def idle(self) -> list[int]:
        while self._again and self._idle:
            self._give(self._idle[0], self._again.popleft())
        free = self._concurrency.limit - len(self._jobs)
        return self._idle[: max(0, free)]

    def submit(self, slot: int, job: Job) -> None:
        self._give(slot, job)

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        answer: Effective | JobError | Lost | None = None
        for _ in range(self._losses_max + 1):
            while not self._idle:
                self._listen(None)
            slot = self._idle.pop(0)
            self._asked[slot] = None
            self._transport.send(slot, "effective", config, names)
            while self._asked[slot] is None:
                self._listen(None)
            answer = self._asked.pop(slot)
            if not isinstance(answer, Lost):
                self._idle.insert(0, slot)
                break
        match answer:
            case Effective(values):
                return dict(values)
            case JobError(Infeasible(kind, reason, evidence)):
                raise EngineFailure(kind, reason, evidence)
            case JobError(Failed(reason)) | Lost(reason):
                raise TransientFault(reason)
        raise AssertionError(answer)

    def wait(self, timeout_s: float | None = None) -> Done | None:
        if not self._done:
            self._listen(timeout_s)
        return self._done.popleft() if self._done else None

    def interrupt(self) -> None:
        for slot in list(self._jobs):
            self._transport.stop(slot)
        self._jobs.clear()
        self._again.clear()

    # --- words --------------------------------------------------------------------------------------------------

    def _listen(self, timeout_s: float | None) -> None:
        for slot, word in self._transport.wait(timeout_s):
            self._hear(slot, word)
        if len(self._gone) == self.slots:
            raise OptimizeError(f"no worker is left: {self._gone[max(self._gone)]}; the same command goes on from here")

    def _hear(self, slot: int, word: Message) -> None:
        match word:
            case Ready():
                self._welcome(slot, word)
            case Rejected(reason, host):
                self._give_up(slot, f"the worker on {host} cannot serve this study: {reason}")
            case Result():
                self._take_back(slot, word)
            case Effective() | JobError() if slot in self._asked:
                self._asked[slot] = word
            case JobError(outcome):
                self._finish(slot, Done(slot, self._jobs[slot].record, Evaluation(outcome), False))
            case Lost(reason):
                self._lose(slot, reason)

    def _welcome(self, slot: int, worker: Ready) -> None:
        self._starts[slot] = 0
        other = [part for part in ALIKE if worker.signature[part] != self._signature[part]]
        if other:
            part = other[0]
            reason = f"its {part} is {worker.signature[part]!r}, not {self._signature[part]!r}"
            self._transport.stop(slot)
            self._give_up(slot, f"the worker on {worker.host} cannot serve this study: {reason}")
            return
        machine = self._class or worker.signature["machine"]
        if machine != (self.machine or machine):
            self._transport.stop(slot)
            self._give_up(slot, f"the worker on {worker.host} is another machine ({machine}, not {self.machine}): "
                "figures of different hardware are not ranked together; hardware.machine_class=NAME says that they are "
                "alike")  # fmt: skip
            return
        self.machine = machine
        self._idle.append(slot)

    def _take_back(self, slot: int, result: Result) -> None:
        self._land(result.record, result.files)
        said = self._concurrency.heard(beside=len(self._jobs) - 1, disturbed=bool(result.evaluation.disturbances))
        if said:
            self._say(said)
        self._finish(slot, Done(slot, result.record, result.evaluation, result.live))

    def _finish(self, slot: int, done: Done) -> None:
        del self._jobs[slot]
        self._idle.insert(0, slot)
        self._done.append(done)

    def _lose(self, slot: int, reason: str) -> None:
        """Start the worker anew; what it was doing is done again elsewhere."""
        if slot in self._idle:
            self._idle.remove(slot)
        if slot in self._asked:
            self._asked[slot] = Lost(reason)
        job = self._jobs.pop(slot, None)
        if job is not None:
            self._losses[job.record.number] += 1
            lost = self._losses[job.record.number]
            self._say(f"trial {job.record.number} lost its worker ({reason}); " + (
                "it is run again" if lost <= self._losses_max else "that was once too often"))  # fmt: skip
            if lost <= self._losses_max:
                self._again.append(job)
            else:
                failure = Failed(f"its worker was lost {lost} times: {reason}")
                self._done.append(Done(slot, job.record, Evaluation(failure), False))
        self._start(slot, reason)

    # --- workers ------------------------------------------------------------------------------------------------

    def _start(self, slot: int, reason: str = "") -> None:
        self._starts[slot] += 1
        if self._starts[slot] > _STARTS_MAX:
            self._give_up(slot, f"a worker did not start {_STARTS_MAX} times in a row: {reason}")
        else:
            self._transport.start(slot)

    def _give_up(self, slot: int, reason: str) -> None:
        self._gone[slot] = reason
        self._say(f"note: {reason}")

    def _give(self, slot: int, job: Job) -> None:
        self._idle.remove(slot)
        self._jobs[slot] = Job(job.config, job.record, job.futility, job.answers, nothing)
        self._transport.send(slot, "run", self._jobs[slot])

    def _await_workers(self) -> None:
        """Return once all workers are ready, or some of them and time is over.

        Raises:
            ConfigError: one is unfit, or none came.
        """
        say, self._say = self._say, nothing_said
        deadline = time.monotonic() + self._start_s
        while len(self._idle) < self.slots and (left := deadline - time.monotonic()) > 0:
            try:
                self._listen(left)
            except OptimizeError as error:
                raise ConfigError(self._gone[min(self._gone)]) from error
            if self._gone:
                raise ConfigError(self._gone[min(self._gone)])
        self._say = say
        if not self._idle:
            raise ConfigError(
                f"{self._title}: no worker was ready within {self._start_s:g} s (executor.start_timeout_s)"
            )


def nothing_said(line: str) -> None:
    """Says nothing."""
