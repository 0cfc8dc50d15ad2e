"""Workers that return a result at once, for studies that need no engine."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from objectives import Estimate, RequestRecord
from optimize.engine.base import TrialConfig
from optimize.evaluation.answers import answers_key
from optimize.evaluation.references import References
from optimize.executor.base import Job
from optimize.executor.factory import FileStore
from optimize.executor.fleet import Fleet, FleetSpec
from optimize.executor.worker import Answered, Effective, Message, Ready, Refusals, Result
from optimize.ledger import Ledger
from optimize.outcome import Completed, Evaluation, Infeasible
from optimize.plan import Plan

_ANSWERS = 100


class Instant:
    """A transport whose workers return a made-up result as soon as they are sent a job.

    Args:
        plan: The study's parts, for its signature and metrics.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._ledger = plan, Ledger(plan.folder)
        self._messages: deque[tuple[int, Message]] = deque()
        self._requests = [
            RequestRecord(i, 0.1 * i, 0.1 * i, None, 0.1 * i + 0.3, 20, 30, "a b " * 15) for i in range(_ANSWERS)
        ]

    def start(self, slot: int) -> None:
        self._messages.append((slot, Ready(dict(self._plan.signature), "here", 0)))

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        if method == "effective":
            self._messages.append((slot, Effective({"max_num_seqs": 128})))
            return
        if method == "refusals":
            refused = self._plan.launcher.refusals(*arguments)
            reasons = {name: Infeasible(why.kind, str(why), why.evidence) for name, why in refused.items()}
            self._messages.append((slot, Refusals(reasons)))
            return
        if method == "references":
            self._messages.append((slot, Answered(self._references())))
            return
        job: Job = arguments[0]
        evaluation = self.evaluate(job)
        self._messages.append((slot, Result(job.record, evaluation, isinstance(evaluation.outcome, Completed))))

    def _references(self) -> References:
        answers = {request.prompt_id: request.text for request in self._requests}
        return References("made up", [answers, answers], 1.0)

    def evaluate(self, job: Job) -> Evaluation:
        """The result of a job; its requests and telemetry are written to the ledger."""
        self._ledger.write_requests(job.record.number, self._requests, {"cpu_cores": [(1.0, 1.0)]})
        outcome = Completed(self.figures(job.config))
        return Evaluation(outcome, answers_key(job.config), {"engine_start": 2.0, "total": 14.0})

    def figures(self, config: TrialConfig) -> dict[str, Estimate]:
        """Metric -> figure, drawn at random; equal configurations have equal figures."""
        rng = random.Random(repr(config))
        values = {name: 0.0 if name == "error_rate" else rng.uniform(1.0, 2.0) for name in self._plan.metrics}
        return {name: Estimate(v, v * 0.9, v * 1.1, _ANSWERS, "") for name, v in values.items()}

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        return [self._messages.popleft()] if self._messages else []

    def stop(self, slot: int) -> None: ...

    def close(self) -> None: ...


def instant_fleet(transport: Instant, plan: Plan, slots: int) -> Fleet:
    """An executor of a planned study on instant workers."""
    spec = FleetSpec(slots, plan.signature, losses_max=1, start_timeout_s=5.0, title="instant workers")
    return Fleet(transport, spec, print, FileStore(Ledger(plan.folder)))
