"""The executor of one engine: evaluates jobs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from optimize.capacity import Capacity
from optimize.engine.base import EngineConfig, TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import EngineFailure
from optimize.evaluation import auto_level
from optimize.evaluation.evaluator import Evaluator
from optimize.evaluation.references import References, ask
from optimize.evaluation.starting import watched
from optimize.executor.base import Done, Job
from optimize.ledger import Ledger
from optimize.load.client_pool import ClientPool
from optimize.plan import Plan


class Inline:
    """The executor of one engine.

    Args:
        plan: The study's parts.
        phase: Receives the name of each phase of a trial.
        evaluator: Class that evaluates a configuration.
    """

    slots = 1

    def __init__(self, plan: Plan, phase: Callable[[str], None], evaluator: type[Evaluator] = Evaluator) -> None:
        self._plan, self._phase, self._evaluator = plan, phase, evaluator
        self._pool = EnginePool(plan.launcher, plan.folder / "engines")
        self._clients = ClientPool(plan.config.load.clients)
        self._resources = ExitStack()
        self._job: Job | None = None

    @property
    def machine(self) -> str:
        return self._plan.signature["machine"]

    def describe(self) -> str:
        return ""

    def __enter__(self) -> Self:
        self._resources.enter_context(self._clients)
        self._resources.enter_context(self._pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def idle(self) -> list[int]:
        return [0] if self._job is None else []

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        with (
            watched(self._plan.config.load.guard),
            self._pool.lease(config, lambda name: self._phase(f"starting vLLM with its defaults: {name}")) as lease,
        ):
            return lease.engine.effective(names)

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        return self._plan.launcher.refusals(engines)

    def references(self) -> References:
        return ask(self._plan, self._pool, self._clients, self._phase)

    def capacity(self, config: TrialConfig) -> Capacity:
        return auto_level.ask(self._plan, config, self._pool, self._clients, self._phase)

    def submit(self, slot: int, job: Job) -> None:
        self._job = job

    def wait(self, timeout_s: float | None = None) -> Done | None:
        job = self._job
        assert job is not None
        try:
            evaluation = self._evaluator_of(job).evaluate(job.config, job.record, job.hold, job.futility)
        finally:
            self._job = None
        return Done(0, job.record, evaluation, self._pool.is_live(job.config.engine))

    def _evaluator_of(self, job: Job) -> Evaluator:
        ledger = Ledger(self._plan.folder)
        return self._evaluator(
            job.planned(self._plan), self._pool, self._clients, ledger, self._phase, job.answers,
            references=job.references,
        )  # fmt: skip

    def interrupt(self) -> None:
        with contextlib.suppress(Exception):
            self._pool.close()
