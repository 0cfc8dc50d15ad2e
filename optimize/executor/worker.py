"""The worker of a slot: owns a place, one engine at a time and the clients that load it.

It has no access to storage and tracking: results go back to the driver, which alone writes to them.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.capacity import Capacity
from optimize.config.schema import StudyConfig, Tracking
from optimize.engine.base import EngineConfig, TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import EngineFailure, OptimizeError
from optimize.evaluation import auto_level
from optimize.evaluation.evaluator import Evaluator
from optimize.evaluation.references import References, ask
from optimize.evaluation.starting import watched
from optimize.executor.base import Job
from optimize.executor.placement import Place, taken
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.outcome import Evaluation, Failed, Infeasible
from optimize.plan import Plan, make_plan
from optimize.quantize.calibration import calibration_of
from optimize.quantize.checkpoints import make_checkpoints

ALIKE = ("engine", "model", "workload", "load")
"""Parts of the signature that a worker must share with the driver."""
_NO_TRACKING = Tracking(uri="", storage="")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Specification of a worker.

    Attributes:
        config: The study's configuration; its addresses of storage and tracking are not for workers.
        places: Parts of its machine; it takes the first that no other worker has.
        slot: Number of its slot.
        folder: The study's folder where worker and driver share a disk; None has the worker send its files back.
        cwd: The driver's current folder, to which paths of the configuration are relative.
        secrets: Value -> stand-in of what the worker must not show; see `optimize.redaction`.
    """

    config: StudyConfig
    places: Sequence[Place]
    slot: int
    folder: Path | None
    cwd: Path
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """First message of a worker: the signature of its figures."""

    signature: Mapping[str, str]
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a job.

    Attributes:
        record: The job's record, with the signature of this machine.
        evaluation: The result, to be told.
        live: Whether the engine still runs.
        files: Name -> content of the trial's files, where the driver cannot see them.
    """

    record: TrialRecord
    evaluation: Evaluation
    live: bool
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effective:
    """Flag -> value of an engine."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Name -> why its engine cannot run on the worker's machine."""

    reasons: Mapping[str, Infeasible]


@dataclass(frozen=True, slots=True)
class JobError:
    """Reason why a request has no result, as the outcome of a trial."""

    outcome: Infeasible | Failed


@dataclass(frozen=True, slots=True)
class Rejected:
    """Last message of a worker: its node lacks something that the study needs."""

    reason: str
    host: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Message of the transport: the worker is gone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The unquantized model's answers for reference."""

    references: References


@dataclass(frozen=True, slots=True)
class Carries:
    """What a configuration carries within the SLO."""

    capacity: Capacity


Answer = Effective | Answered | Refusals | Carries | JobError
"""What a worker says to a question."""
Message = Ready | Rejected | Result | Answer | Lost


class Worker:
    """Evaluates jobs; a context manager that leaves no engine behind.

    Args:
        spec: Its specification.

    Raises:
        ConfigError: this node lacks something that the study needs (vLLM, the model, the workload).
    """

    def __init__(self, spec: WorkerSpec) -> None:
        if spec.cwd.is_dir():
            os.chdir(spec.cwd)
        self._resources = ExitStack()
        self._resources.enter_context(taken(spec.places))
        self._spec = spec
        self._shared = spec.folder is not None
        folder = spec.folder or Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="worker-")))
        self._plan = _plan(spec.config, folder)
        self._ledger = Ledger(folder)
        self._clients = self._resources.enter_context(ClientPool(spec.config.load.clients))
        engines = folder / "engines" / f"slot-{spec.slot}"
        self._pool = self._resources.enter_context(EnginePool(self._plan.launcher, engines))

    def ready(self) -> Ready:
        return Ready(dict(self._plan.signature), os.uname().nodename, os.getpid())

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        self._ensure_checkpoint(config)
        with watched(self._plan.config.load.guard), self._pool.lease(config) as lease:
            return lease.engine.effective(names)

    def refusals(self, engines: Mapping[str, EngineConfig]) -> Refusals:
        for config in engines.values():
            self._ensure_checkpoint(config)
        refused = self._plan.launcher.refusals(engines)
        return Refusals({name: Infeasible(why.kind, str(why), why.evidence) for name, why in refused.items()})

    def references(self) -> References:
        return ask(self._plan, self._pool, self._clients, lambda _: None)

    def capacity(self, config: TrialConfig) -> Capacity:
        self._ensure_checkpoint(config.engine)
        return auto_level.ask(self._plan, config, self._pool, self._clients, lambda _: None)

    def run(self, job: Job) -> Result:
        """Evaluate one job; see `optimize.evaluation.evaluator.Evaluator.evaluate`."""
        self._ensure_checkpoint(job.config.engine)
        signature = {**job.record.signature, "machine": self._plan.signature["machine"]}
        record = dataclasses.replace(job.record, signature=signature)
        evaluator = Evaluator(
            job.planned(self._plan), self._pool, self._clients, self._ledger, lambda _: None, job.answers,
            references=job.references,
        )  # fmt: skip
        evaluation = evaluator.evaluate(job.config, record, futility=job.futility)
        return Result(record, evaluation, self._is_live(job.config), {} if self._shared else self._files(record.number))

    def _is_live(self, config: TrialConfig) -> bool:
        return self._pool.is_live(config.engine)

    def _ensure_checkpoint(self, config: EngineConfig) -> None:
        """Make a quantized checkpoint that this node lacks; its name holds a hash of its content, so it is the same."""
        path = Path(config.checkpoint)
        if path.is_absolute() and not path.exists():
            recipes = [r for r in self._plan.space.recipes_needed() if r.name == config.quantization]
            cache = Path(self._plan.config.cache_dir)
            make_checkpoints(
                self._plan.config.model, recipes, cache, lambda _: None, calibration_of(self._plan.workload)
            )

    def _files(self, number: int) -> dict[str, bytes]:
        """Name -> content of the trial's files, which are removed here."""
        paths = list(self._ledger.trial_folder(number).iterdir())
        contents = {path.name: path.read_bytes() for path in paths}
        for path in paths:
            path.unlink()
        return contents

    def close(self) -> None:
        """Stop the engine and the clients."""
        self._resources.close()


def _plan(config: StudyConfig, folder: Path) -> Plan:
    """The study's plan on this node, its files under `folder`, without the driver's addresses."""
    with tempfile.TemporaryDirectory(prefix="plan-") as scratch:
        plan = make_plan(dataclasses.replace(config, tracking=_NO_TRACKING, output_dir=scratch))
    return dataclasses.replace(plan, folder=folder)


def respond(worker: Worker, method: str, arguments: Sequence[Any]) -> Result | Answer:
    """Answer one request of the driver; an expected failure is an answer, too."""
    try:
        if method == "effective":
            return Effective(worker.effective(*arguments))
        if method == "references":
            return Answered(worker.references())
        if method == "refusals":
            return worker.refusals(*arguments)
        if method == "capacity":
            return Carries(worker.capacity(*arguments))
        return worker.run(*arguments)
    except EngineFailure as failure:
        reason = "; ".join([str(failure), *(failure.disturbances or ())])
        return JobError(Infeasible(failure.kind, reason, failure.evidence))
    except OptimizeError as error:
        return JobError(Failed(str(error)))
