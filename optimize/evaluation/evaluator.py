"""One configuration to one outcome: the only place where engine, load, telemetry and objectives meet."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from objectives import Estimate, Measurement, MemoryParts, Objective, RequestRecord
from objectives.segments import SegmentScore
from optimize.decision.constraints import hopeless_after_s
from optimize.decision.futility import Futility
from optimize.engine.base import Engine, TrialConfig
from optimize.engine.pool import EnginePool, Lease
from optimize.errors import EngineFailure, FailureKind, OptimizeError, TransientFault
from optimize.evaluation.answers import AnswerStore, answers_key
from optimize.evaluation.interference import Machine, disturbances
from optimize.evaluation.perplexity import logprobs_of
from optimize.evaluation.telemetry import Telemetry
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Glimpse, Hopeless, LoadResult, Precise, Traffic, run_load
from optimize.outcome import Completed, Failed, Infeasible, Outcome
from optimize.plan import Plan

Phase = Callable[[str], None]
_CONFIRMING_TRIES = 3


@dataclass(frozen=True)
class Evaluator:
    """Measures configurations on live engines.

    Attributes:
        plan: Workload, load and metrics.
        pool: Lends the engines.
        clients: Sends the load.
        ledger: Takes the raw data.
        phase: Told of each phase as it begins.
        answers: What the study was answered so far, to score quality on all of it; None scores each trial by itself.
    """

    plan: Plan
    pool: EnginePool
    clients: ClientPool
    ledger: Ledger
    phase: Phase
    answers: AnswerStore | None = None

    def evaluate(
        self, config: TrialConfig, record: TrialRecord, hold: Callable[[], None] = lambda: None,
        futility: Futility | None = None,
    ) -> Outcome:  # fmt: skip
        """Measure one configuration.

        Raw records, telemetry and the engine's log are left in the trial's folder; phase times in `record.seconds`,
        what was found of the measurement's own quality in `record.audit` and `record.disturbed`.

        Args:
            config: What to run.
            record: The trial's record, to be filled in.
            hold: Called before the load: from then on nothing of ours may run in the background.
            futility: Closes the window early where the trial can come to nothing; None measures it in full.
        """
        record.answers_key = answers_key(config)
        began = time.monotonic()
        self.phase("reusing the live engine" if self.pool.is_live(config.engine) else "starting the engine")
        self.clients.begin()
        try:
            with self.pool.lease(config.engine) as lease:
                record.seconds["engine_start"] = time.monotonic() - began
                record.new_engine = not lease.reused
                self.phase("settling")
                hold()
                measurement = self._measure(config, lease, record, futility)
                measurement = self._with_references(measurement, lease, record)
        except EngineFailure as failure:
            return Infeasible(failure.kind, str(failure), failure.evidence)
        except TransientFault as fault:
            return Failed(str(fault))
        finally:
            record.seconds["total"] = time.monotonic() - began
            _keep_log(self.pool, self.ledger, record.number)
        self.ledger.write_requests(record.number, measurement.records, measurement.series)
        if self.answers is not None:
            self.answers.add(record, measurement.records)
            record.paired = self._paired(record, measurement, self.answers)
        return Completed(estimate_all(measurement, self.plan.metrics))

    def _measure(
        self, config: TrialConfig, lease: Lease, record: TrialRecord, futility: Futility | None
    ) -> Measurement:
        """Measure, and again while the guard has doubts.

        A candidate that is measured again served its load before: a window of it that seems not to is the machine's
        doing rather than the load's, and no reason to give it up.

        Raises:
            EngineFailure: the engine died, or does not serve what is asked.
            TransientFault: the client was not good enough for its figures.
        """
        guard, began = self.plan.config.load.guard, time.monotonic()
        most = guard.repeats if record.confirms is None else _CONFIRMING_TRIES * guard.repeats
        for again in range(most + 1):
            if again:
                record.seconds["repeated"] = time.monotonic() - began
                self.phase("measuring again")
                lease.engine.reset()
            result, measurement = self._load(config, lease, record, futility)
            unfit = result.audit.problems(guard)
            record.disturbed = disturbances(measurement, guard) + result.audit.stalls(guard)
            record.disturbed += [result.drift] if result.drift else []
            record.audit, record.cut_short = asdict(result.audit), result.cut_short or ""
            doubts = [*unfit, *record.disturbed, *([result.overload] if result.overload else [])]
            if not doubts or (again >= guard.repeats and not result.overload):
                break
            if again < most:
                record.repeated += doubts
            if unfit and result.audit.client_cpu > guard.client_cpu_max / 2:
                self.clients.grow(self.plan.config.load.clients_max or len(os.sched_getaffinity(0)))
        if unfit:
            raise TransientFault(f"the client was not good enough for its figures: {'; '.join(unfit)}")
        if result.overload:
            doubt = f"; {'; '.join(record.disturbed)}" if record.disturbed else ""
            raise EngineFailure(FailureKind.UNSETTLED, f"{result.overload}: this load does not settle{doubt}")
        return measurement

    def _with_references(self, measurement: Measurement, lease: Lease, record: TrialRecord) -> Measurement:
        """The same with what the model thinks of the references, where a metric wants to know; the load is over."""
        self.phase("scoring")
        began = time.monotonic()
        found = logprobs_of(record.answers_key, self.plan, lease.engine)
        record.seconds["scoring"] = time.monotonic() - began
        return replace(measurement, reference_logprobs=found)

    def _paired(self, record: TrialRecord, ours: Measurement, answers: AnswerStore) -> dict[str, Any]:
        """Metric -> `Paired` with the study's baseline, on the rows that both answered."""
        theirs = ours if record.baseline else self._of_baseline(ours, answers)
        if theirs is None:
            return {}
        scores = {name: m for name, m in self.plan.metrics.items() if isinstance(m, SegmentScore)}
        found = {name: score.paired(ours, theirs) for name, score in scores.items()}
        return {name: paired.to_dict() for name, paired in found.items() if paired is not None}

    def _of_baseline(self, ours: Measurement, answers: AnswerStore) -> Measurement | None:
        if answers.baseline is None:
            return None
        known = logprobs_of(answers.baseline, self.plan)
        return Measurement([], 0, 0, ours.references, answers=answers.of(answers.baseline), reference_logprobs=known)

    def _load(
        self, config: TrialConfig, lease: Lease, record: TrialRecord, futility: Futility | None
    ) -> tuple[LoadResult, Measurement]:
        """One load, and what was observed of it."""
        engine, plan = lease.engine, self.plan
        known = self._known(record)
        traffic = Traffic(plan.workload, config.request, plan.arrivals, plan.config.load, plan.config.study.seed, known)
        machine = Machine(lambda: [*engine.pids, *self.clients.pids]) if engine.pids else None
        with Telemetry(engine, machine).sampling() as telemetry:
            result = run_load(
                self.clients, engine, traffic, self.phase,
                first_answers=config.request.beam_size not in lease.answered,
                give_up_s=None if record.baseline else hopeless_after_s(plan.limits),
                precise=self._precise(config),
                hopeless=self._hopeless(config, futility, engine, telemetry),
            )  # fmt: skip
        lease.answered.add(config.request.beam_size)
        record.seconds |= {
            "first_answer": result.first_answer_s,
            "warmup": result.window_start_s,
            "window": result.window_end_s - result.window_start_s,
            "drain": result.drained_s - result.window_end_s,
        }
        series = telemetry.series(result.began_at)
        window = (result.window_start_s, result.window_end_s)
        return result, self._measurement(config, result.records, *window, series, engine.memory(), known)

    def _measurement(
        self, config: TrialConfig, records: Sequence[RequestRecord], start_s: float, end_s: float,
        series: Mapping[str, Sequence[tuple[float, float]]] | None = None, memory: MemoryParts | None = None,
        known: Mapping[int, str] | None = None,
    ) -> Measurement:  # fmt: skip
        references = dict(enumerate(self.plan.workload.references))
        return Measurement(
            records, start_s, end_s, references, series or {}, memory, config.request.beam_size, known or {}
        )

    def _known(self, record: TrialRecord) -> Mapping[int, str]:
        """Workload row -> what the study was answered to it before, by the same model and decoding."""
        if self.answers is None or not self.plan.workload.references:
            return {}
        return self.answers.of(record.answers_key)

    def _precise(self, config: TrialConfig) -> Precise:
        """Whether every metric named in `load.precision` is known well enough."""
        targets = self.plan.config.load.precision

        def precise(seen: Glimpse) -> bool:
            measurement = self._measurement(config, seen.records, seen.start_s, seen.end_s)
            found = {name: self.plan.metrics[name].estimate(measurement) for name in targets}
            return all(e is None or relative_half_width(e) <= targets[name] for name, e in found.items())

        return precise

    def _hopeless(
        self, config: TrialConfig, futility: Futility | None, engine: Engine, telemetry: Telemetry
    ) -> Hopeless:
        """Whether the trial can come to nothing, by what costs next to nothing to look at: quality is left out."""
        if futility is None:
            return lambda _: None
        wanted = {*futility.directions, *(limit.metric for limit in futility.limits)}
        metrics = {name: m for name, m in self.plan.metrics.items() if name in wanted and not m.same_sample}
        parts = engine.memory()

        def hopeless(seen: Glimpse) -> str | None:
            series = telemetry.series(seen.began_at)
            measurement = self._measurement(config, seen.records, seen.start_s, seen.end_s, series, parts)
            return futility.hopeless(estimate_all(measurement, metrics))

        return hopeless


def relative_half_width(estimate: Estimate) -> float:
    """Half of the interval as a share of the value; infinite at a value of zero, unless it is exact."""
    half = (estimate.high - estimate.low) / 2
    return half / abs(estimate.value) if estimate.value else (0.0 if half == 0 else float("inf"))


def estimate_all(measurement: Measurement, metrics: Mapping[str, Objective]) -> dict[str, Estimate]:
    """Every metric that applies.

    Raises:
        OptimizeError: a user's function cannot score an answer.
    """
    found = {}
    for name, metric in metrics.items():
        try:
            found[name] = metric.estimate(measurement)
        except ValueError as error:
            raise OptimizeError(f"{name}: {error}") from error
    return {name: figure for name, figure in found.items() if figure is not None}


def _keep_log(pool: EnginePool, ledger: Ledger, number: int) -> None:
    log = pool.last_log()
    if log is not None and log.is_file():
        shutil.copyfile(log, ledger.log(number))
