"""Evaluates one configuration: the only place where engine, load, telemetry and objectives meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace

from objectives import Measurement, RequestRecord
from optimize.decision.futility import Futility
from optimize.engine.base import Engine, TrialConfig
from optimize.engine.log_text import read_log
from optimize.engine.pool import EnginePool, Lease
from optimize.engine.startup import keyed
from optimize.errors import EngineFailure, OptimizeError, TransientFault
from optimize.evaluation.answers import AnswerStore, answers_key
from optimize.evaluation.capacity import CapacityMeasurement, GuardedProber, seed_of
from optimize.evaluation.closing import precise
from optimize.evaluation.data_type import data_type_of
from optimize.evaluation.engine_scores import engine_scores
from optimize.evaluation.estimates import estimate_all
from optimize.evaluation.interference import Machine, disturbances
from optimize.evaluation.pairs import paired_with_baseline
from optimize.evaluation.references import References, texts_of
from optimize.evaluation.refusal import outcome_of, whole_reason
from optimize.evaluation.starting import StartWatch, Watch, watched
from optimize.evaluation.task import Notes, Task, effort_in, phases_s, require_settled
from optimize.evaluation.telemetry import Sampler, Telemetry
from optimize.evaluation.token_counts import counted
from optimize.files import write_atomically
from optimize.ledger import Ledger, TrialRecord
from optimize.load.clients import Clients
from optimize.load.clock import Clock, MonotonicClock
from optimize.load.generator import LoadControl, LoadResult, Traffic, run_load
from optimize.load.prober import LiveProber, ProbeLoad
from optimize.load.window import Glimpse
from optimize.outcome import Completed, Evaluation, Failed, Outcome
from optimize.plan import Plan

Phase = Callable[[str], None]
_CONFIRMATION_REPEATS = 3
"""Times as many measurements a confirmation may take as a trial of the search."""


@dataclass(frozen=True)
class Evaluator:
    """Measures configurations on live engines.

    Attributes:
        plan: Workload, load and metrics.
        pool: Lends the engines.
        clients: Sends the load.
        ledger: Takes the raw data.
        phase: Called with the name of each phase as it begins.
        answers: The study's answers so far, to score quality on all of them; None scores each trial by itself.
        clock: Times everything; the clients must use the same one.
        telemetry: Makes the sampler of an engine and the machine, for the duration of a load.
        watch: Makes what watches the machine while an engine starts.
        references: The unquantized model's own answers, where these are what answers are scored against.
    """

    plan: Plan
    pool: EnginePool
    clients: Clients
    ledger: Ledger
    phase: Phase
    answers: AnswerStore | None = None
    clock: Clock = field(default_factory=MonotonicClock)
    telemetry: Callable[[Engine, Machine | None], Sampler] = Telemetry
    watch: Callable[[], Watch] = StartWatch
    references: References | None = None

    def evaluate(
        self, config: TrialConfig, record: TrialRecord, hold: Callable[[], None] = lambda: None,
        futility: Futility | None = None,
    ) -> Evaluation:  # fmt: skip
        """Measure one configuration.

        Request records, telemetry and the engine's log are written to the trial's folder.

        Args:
            config: The configuration.
            record: The trial's record, which is not changed: its number, and what it confirms.
            hold: Called before the load; from then on nothing of ours may run in the background.
            futility: Ends a search for the capacity early where the trial cannot matter any more; None searches to the
                end.

        Raises:
            OptimizeError: a user's metric cannot score an answer.
        """
        task = Task(config, record, futility, Notes(answers_key(config)))
        began = self.clock.now()
        self._begin(task, "reusing the live engine" if self.pool.is_live(config.engine) else "starting the engine")
        self.clients.begin()
        try:
            measurement = self._on_engine(task, hold, began)
        except EngineFailure as failure:
            if failure.disturbances is not None:
                task.notes.disturbances = list(failure.disturbances)
            outcome = outcome_of(failure, self._whole_reason(task, failure), task.pace)
            return self._unmeasured(task, began, outcome)
        except TransientFault as fault:
            return self._unmeasured(task, began, Failed(self._whole_reason(task, fault)))
        finally:
            self._keep_log(record.number)
        task.notes.seconds["total"] = self.clock.now() - began
        self._keep(task, measurement)
        return task.notes.evaluation(Completed(estimate_all(measurement, self.plan.metrics)))

    def _unmeasured(self, task: Task, began: float, outcome: Outcome) -> Evaluation:
        task.notes.seconds |= {**keyed(self.pool.start_seconds), "total": self.clock.now() - began}
        return task.notes.evaluation(outcome)

    def _begin(self, task: Task, phase: str) -> None:
        """Show a phase that begins, and note it for the case that it fails."""
        task.phases.append(phase)
        self.phase(phase)

    def _whole_reason(self, task: Task, error: OptimizeError) -> str:
        log = self.pool.last_log()
        text = read_log(log) if log is not None and log.is_file() else ""
        return whole_reason(error, task.phases[-1], task.notes.disturbances, text)

    def _on_engine(self, task: Task, hold: Callable[[], None], began: float) -> Measurement:
        notes, guard = task.notes, self.plan.config.load.guard
        with ExitStack() as resources:
            with nullcontext() if self.pool.is_live(task.config.engine) else watched(guard, self.watch()):
                lease = resources.enter_context(
                    self.pool.lease(task.config.engine, lambda name: self._begin(task, f"starting the engine: {name}"))
                )
            notes.seconds |= {"engine_start": self.clock.now() - began, **keyed(self.pool.start_seconds)}
            notes.new_engine = not lease.reused
            notes.dtype = data_type_of(task.config.engine, lease.engine)
            self._begin(task, "settling")
            hold()
            return self._with_references(self._measure(task, lease), lease, notes)

    def _keep(self, task: Task, measurement: Measurement) -> None:
        """Write the raw data, and note how the answers compare with the baseline's."""
        self.ledger.write_requests(task.record.number, measurement.records, measurement.series)
        if self.answers is not None:
            self.answers.add(task.notes.answers_key, measurement.records, task.record.baseline)
            task.notes.paired = paired_with_baseline(
                measurement, task.record.baseline, self.answers, self.plan, self.references
            )

    def _keep_log(self, number: int) -> None:
        log = self.pool.last_log()
        if log is not None and log.is_file():
            write_atomically(self.ledger.log(number), read_log(log))

    # --- measurements -------------------------------------------------------------------------------------------

    def _measure(self, task: Task, lease: Lease) -> Measurement:
        """Measure, and repeat the measurement while the guard rejects it.

        A candidate of a confirmation has served its load before: where its window does not settle, that is the
        machine's doing rather than the load's, and no reason to give it up.

        Raises:
            EngineFailure: the engine died, or does not serve the load.
            TransientFault: the client was too slow for its figures.
        """
        if self.plan.config.load.capacity.search:
            return self._capacity(task, lease)
        guard, notes, began = self.plan.config.load.guard, task.notes, self.clock.now()
        repeats_max = guard.repeats if task.record.confirms is None else _CONFIRMATION_REPEATS * guard.repeats
        for repeat in range(repeats_max + 1):
            if repeat:
                notes.seconds["repeated"] = self.clock.now() - began
                self._begin(task, "measuring again")
                lease.engine.reset()
            result, measurement = self._load(task, lease)
            client_problems = result.audit.problems(guard)
            notes.take(result, disturbances(measurement, guard), guard)
            objections = [*client_problems, *notes.disturbances, *([result.overload] if result.overload else [])]
            if not objections or (repeat >= guard.repeats and not result.overload):
                break
            if repeat < repeats_max:
                notes.repeats += objections
            if client_problems and result.audit.client_cpu > guard.client_cpu_max / 2:
                self._grow()
        if client_problems and notes.disturbances and task.record.baseline:
            notes.disturbances += client_problems  # without a baseline there is no study: it is flagged instead
            client_problems = []
        require_settled(result, client_problems)
        return measurement

    def _load(self, task: Task, lease: Lease) -> tuple[LoadResult, Measurement]:
        """Run one load and observe it."""
        engine, config = lease.engine, task.config
        traffic, answers = self._traffic(task)
        with self._sampled(engine) as telemetry:
            control = replace(
                self._control(task, lease, telemetry),
                give_up_s=task.give_up_s(self.plan.limits),
                precise=precise(self.plan, lambda glimpse: self._glimpsed(config, glimpse)),
            )
            began = self.clock.now()
            try:
                result = run_load(self.clients, engine, traffic, control)
            except EngineFailure as failure:
                so_far = Measurement([], 0.0, self.clock.now() - began, {}, series=telemetry.series(began))
                failure.disturbances = tuple(disturbances(so_far, self.plan.config.load.guard))
                raise
        lease.answered.add(config.request.beam_size)
        task.notes.seconds |= phases_s(result)
        records = counted(result.records, engine.endpoint.access.tokenizer)
        measurement = self._measurement(config, records, result.window_start_s, result.window_end_s)
        series = telemetry.series(result.began_at)
        return result, replace(measurement, series=series, memory=engine.memory(), answers=answers)

    def _capacity(self, task: Task, lease: Lease) -> Measurement:
        """Search for the capacity, in place of one load, and observe it."""
        engine, guard = lease.engine, self.plan.config.load.guard
        traffic, answers = self._traffic(task)
        with self._sampled(engine) as telemetry:
            control, traffic = self._control(task, lease, telemetry), replace(traffic, seed=seed_of(self.plan, task))
            prober = LiveProber(self.clients, engine, traffic, control, self.plan.config.slo.latency_max_s)

            def measured(records: Sequence[RequestRecord], start_s: float, end_s: float) -> Measurement:
                records = counted(records, engine.endpoint.access.tokenizer)
                measurement = self._measurement(task.config, records, start_s, end_s)
                return replace(measurement, series=telemetry.series(prober.began_at), answers=answers)

            def disturbed(last: ProbeLoad) -> list[str]:
                return disturbances(measured([], last.start_s, last.end_s), guard)

            guarded = GuardedProber(prober, guard, disturbed, self._grow)
            measurement = CapacityMeasurement(self.plan, task, guarded, measured).run()
        lease.answered.add(task.config.request.beam_size)
        return measurement

    def _traffic(self, task: Task) -> tuple[Traffic, Mapping[int, str]]:
        """The requests of a trial, and the answers that the study got to them before."""
        plan = self.plan
        answers, later = self._answers_so_far(task.notes.answers_key)
        seed = plan.config.study.seed
        return Traffic(plan.workload, task.config.request, plan.arrivals, plan.config.load, seed, later), answers

    def _sampled(self, engine: Engine) -> AbstractContextManager[Sampler]:
        machine = Machine(lambda: [*engine.pids, *self.clients.pids]) if engine.pids else None
        return self.telemetry(engine, machine).sampling()

    def _control(self, task: Task, lease: Lease, telemetry: Sampler) -> LoadControl:
        return LoadControl(
            lambda name: self._begin(task, name), clock=self.clock,
            first_answers=task.config.request.beam_size not in lease.answered, pace=task.pace,
            effort=lambda since: effort_in(telemetry.series(since)),
        )  # fmt: skip

    def _grow(self) -> bool:
        return self.clients.grow(self.plan.config.load.clients_max or len(os.sched_getaffinity(0)))

    def _measurement(
        self, config: TrialConfig, records: Sequence[RequestRecord], start_s: float, end_s: float
    ) -> Measurement:
        references = texts_of(self.plan, self.references)
        return Measurement(records, start_s, end_s, references, beam_size=config.request.beam_size)

    # --- quality ------------------------------------------------------------------------------------------------

    def _with_references(self, measurement: Measurement, lease: Lease, notes: Notes) -> Measurement:
        """The measurement with what metrics ask of the engine itself, once the load is over."""
        self.phase("scoring")
        began = self.clock.now()
        scores = engine_scores(notes.answers_key, self.plan, measurement.references, lease.engine)
        notes.seconds["scoring"] = self.clock.now() - began
        return replace(measurement, **scores)

    def _answers_so_far(self, key: str) -> tuple[Mapping[int, str], Collection[int]]:
        """Workload row -> answer that the study got to it before, from the same model and decoding; and the rows that
        a load sends last, as nothing new is to be learned from them.

        The model that gave the reference has answered all of them again, for the noise floor: its load sends them as
        other loads do.
        """
        if self.answers is None or not texts_of(self.plan, self.references):
            return {}, ()
        if self.references is not None and key == self.references.key:
            return self.references.runs[1], ()
        answers = self.answers.of(key)
        return answers, answers

    # --- when a window may close --------------------------------------------------------------------------------

    def _glimpsed(self, config: TrialConfig, glimpse: Glimpse) -> Measurement:
        return self._measurement(config, glimpse.records, glimpse.start_s, glimpse.end_s)
