"""An executor of several workers, wherever they run: hands out jobs and replaces workers that are lost."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from optimize.capacity import Capacity
from optimize.engine.base import EngineConfig, TrialConfig
from optimize.errors import ConfigError, EngineFailure, OptimizeError, TransientFault
from optimize.evaluation.references import References
from optimize.executor.base import Done, Job, nothing
from optimize.executor.concurrency import ConcurrencyLimit
from optimize.executor.transport import Transport
from optimize.executor.worker import (
    ALIKE,
    Answer,
    Answered,
    Carries,
    Effective,
    JobError,
    Lost,
    Message,
    Ready,
    Refusals,
    Rejected,
    Result,
)
from optimize.ledger import TrialRecord
from optimize.outcome import Evaluation, Failed, Infeasible

_STARTS_MAX = 3
"""Failed starts of a worker in a row before its slot is given up."""
Store = Callable[[TrialRecord, Mapping[str, bytes]], None]


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """The workers of a fleet.

    Attributes:
        slots: Number of workers.
        signature: What figures of the study depend on, as the driver has it; workers must match it.
        machine_class: Class that all machines are taken to be of; None demands equal descriptions.
        losses_max: How often a job may lose its worker before it has failed: it may be what kills them.
        start_timeout_s: How long to wait for all workers before going on with those that are ready.
        title: Name of the workers, for people.
    """

    slots: int
    signature: Mapping[str, str]
    machine_class: str | None = None
    losses_max: int = 2
    start_timeout_s: float = 60.0
    title: str = "workers"


class Fleet:
    """An executor of several workers.

    A job whose worker is lost runs again elsewhere under its own number: the sampler is told once.

    Args:
        transport: Starts workers and talks to them.
        spec: Describes them.
        say: Receives messages for the terminal.
        store: Receives the files of a trial that ran where the driver cannot see them.
    """

    def __init__(self, transport: Transport, spec: FleetSpec, say: Callable[[str], None], store: Store) -> None:
        self._transport, self._spec, self._say, self._store = transport, spec, say, store
        self.slots, self.machine = spec.slots, spec.machine_class or ""
        self._idle: list[int] = []
        self._jobs: dict[int, Job] = {}  # by slot
        self._lost_jobs: deque[Job] = deque()
        self._done: deque[Done] = deque()
        self._losses: Counter[int] = Counter()  # by trial number
        self._starts: Counter[int] = Counter()  # by slot
        self._gone: dict[int, str] = {}  # slot -> why it was given up
        self._answers: dict[int, Answer | Lost | None] = {}  # slot -> answer to a question, None so far
        self._concurrency = ConcurrencyLimit(spec.slots)
        self._entered = False

    def __enter__(self) -> Self:
        try:
            for slot in range(self.slots):
                self._start(slot)
            self._await_workers()
        except BaseException:
            self._transport.close()
            raise
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def describe(self) -> str:
        return f"{self._spec.title}: {len(self._idle) + len(self._jobs)} of {self.slots} ready, on {self.machine}"

    def idle(self) -> list[int]:
        while self._lost_jobs and self._idle:
            self._give(self._idle[0], self._lost_jobs.popleft())
        free = self._concurrency.limit - len(self._jobs)
        return self._idle[: max(0, free)]

    def submit(self, slot: int, job: Job) -> None:
        self._give(slot, job)

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        answer = self._answer("effective", config, names)
        assert isinstance(answer, Effective)
        return dict(answer.values)

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        try:
            answer = self._answer("refusals", engines)
        except (EngineFailure, TransientFault):  # the first engine of each will show it
            return {}
        assert isinstance(answer, Refusals)
        return {name: EngineFailure(why.kind, why.reason, why.evidence) for name, why in answer.reasons.items()}

    def references(self) -> References:
        answer = self._answer("references")
        assert isinstance(answer, Answered)
        return answer.references

    def capacity(self, config: TrialConfig) -> Capacity:
        answer = self._answer("capacity", config)
        assert isinstance(answer, Carries)
        return answer.capacity

    def _answer(self, method: str, *arguments: Any) -> Effective | Answered | Refusals | Carries:
        """The answer of a free worker to a question; the worker gets the next job.

        Raises:
            EngineFailure, TransientFault: the worker has no answer.
        """
        answer: Answer | Lost | None = None
        for _ in range(self._spec.losses_max + 1):
            while not self._idle:
                self._listen(None)
            slot = self._idle.pop(0)
            self._answers[slot] = None
            self._transport.send(slot, method, *arguments)
            while self._answers[slot] is None:
                self._listen(None)
            answer = self._answers.pop(slot)
            if not isinstance(answer, Lost):
                self._idle.insert(0, slot)
                break
        match answer:
            case Effective() | Answered() | Refusals() | Carries():
                return answer
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
        self._lost_jobs.clear()

    # --- messages -----------------------------------------------------------------------------------------------

    def _listen(self, timeout_s: float | None) -> None:
        for slot, message in self._transport.wait(timeout_s):
            self._handle(slot, message)
        if len(self._gone) == self.slots:
            raise OptimizeError(f"no worker is left: {self._gone[max(self._gone)]}; the same command goes on from here")

    def _handle(self, slot: int, message: Message) -> None:
        match message:
            case Ready():
                self._admit(slot, message)
            case Rejected(reason, host):
                self._give_up(slot, f"the worker on {host} cannot serve this study: {reason}")
            case Result():
                self._receive(slot, message)
            case Effective() | Answered() | Refusals() | Carries() | JobError() if slot in self._answers:
                self._answers[slot] = message
            case JobError(outcome):
                self._finish(slot, Done(slot, self._jobs[slot].record, Evaluation(outcome), False))
            case Lost(reason):
                self._lose(slot, reason)

    def _admit(self, slot: int, worker: Ready) -> None:
        self._starts[slot] = 0
        differing = [part for part in ALIKE if worker.signature[part] != self._spec.signature[part]]
        if differing:
            part = differing[0]
            reason = f"its {part} is {worker.signature[part]!r}, not {self._spec.signature[part]!r}"
            self._transport.stop(slot)
            self._give_up(slot, f"the worker on {worker.host} cannot serve this study: {reason}")
            return
        machine = self._spec.machine_class or worker.signature["machine"]
        if machine != (self.machine or machine):
            self._transport.stop(slot)
            self._give_up(slot, f"the worker on {worker.host} is another machine ({machine}, not {self.machine}): "
                "figures of different hardware are not ranked together; hardware.machine_class=NAME says that they are "
                "alike")  # fmt: skip
            return
        self.machine = machine
        self._idle.append(slot)

    def _receive(self, slot: int, result: Result) -> None:
        self._store(result.record, result.files)
        note = self._concurrency.observe(beside=len(self._jobs) - 1, disturbed=bool(result.evaluation.disturbances))
        if note:
            self._say(note)
        self._finish(slot, Done(slot, result.record, result.evaluation, result.live))

    def _finish(self, slot: int, done: Done) -> None:
        del self._jobs[slot]
        self._idle.insert(0, slot)
        self._done.append(done)

    def _lose(self, slot: int, reason: str) -> None:
        """Start the worker again; its job runs again elsewhere."""
        if slot in self._idle:
            self._idle.remove(slot)
        if slot in self._answers:
            self._answers[slot] = Lost(reason)
        job = self._jobs.pop(slot, None)
        if job is not None:
            self._losses[job.record.number] += 1
            lost = self._losses[job.record.number]
            self._say(f"trial {job.record.number} lost its worker ({reason}); " + (
                "it is run again" if lost <= self._spec.losses_max else "it has failed"))  # fmt: skip
            if lost <= self._spec.losses_max:
                self._lost_jobs.append(job)
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
        if self._entered:  # before, it is an error, and said as one
            self._say(f"note: {reason}")

    def _give(self, slot: int, job: Job) -> None:
        self._idle.remove(slot)
        self._jobs[slot] = dataclasses.replace(job, hold=nothing)
        self._transport.send(slot, "run", self._jobs[slot])

    def _await_workers(self) -> None:
        """Return once all workers are ready, or some of them when time is over.

        Raises:
            ConfigError: one was rejected, or none is ready.
        """
        deadline = time.monotonic() + self._spec.start_timeout_s
        while len(self._idle) < self.slots and (remaining_s := deadline - time.monotonic()) > 0:
            try:
                self._listen(remaining_s)
            except OptimizeError as error:
                raise ConfigError(self._gone[min(self._gone)]) from error
            if self._gone:
                raise ConfigError(self._gone[min(self._gone)])
        if not self._idle:
            raise ConfigError(
                f"{self._spec.title}: no worker was ready within {self._spec.start_timeout_s:g} s "
                "(executor.start_timeout_s)"
            )
