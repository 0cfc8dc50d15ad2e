"""One configuration to one outcome: the only place where engine, load, telemetry and objectives meet."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from objectives import Estimate, Measurement, MemoryParts, Objective, RequestRecord
from optimize.bounds import hopeless_after_s
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool, Lease
from optimize.errors import EngineFailure, FailureKind, TransientFault
from optimize.interference import Machine, disturbances
from optimize.ledger import Ledger, TrialRecord
from optimize.load.crew import Crew
from optimize.load.generator import LoadResult, Precise, Traffic, run_load
from optimize.outcome import Completed, Failed, Infeasible, Outcome
from optimize.plan import Plan
from optimize.telemetry import Telemetry

Phase = Callable[[str], None]


@dataclass(frozen=True)
class Evaluator:
    """Measures configurations on live engines.

    Attributes:
        plan: Workload, load and metrics.
        pool: Lends the engines.
        crew: Sends the load.
        ledger: Takes the raw data.
        phase: Told of each phase as it begins.
    """

    plan: Plan
    pool: EnginePool
    crew: Crew
    ledger: Ledger
    phase: Phase

    def evaluate(self, config: TrialConfig, record: TrialRecord, hold: Callable[[], None] = lambda: None) -> Outcome:
        """Measure one configuration.

        Raw records, telemetry and the engine's log are left in the trial's folder; phase times in `record.seconds`,
        what was found of the measurement's own quality in `record.audit` and `record.disturbed`.

        Args:
            config: What to run.
            record: The trial's record, to be filled in.
            hold: Called before the load: from then on nothing of ours may run in the background.
        """
        began = time.monotonic()
        self.phase("reusing the live engine" if self.pool.is_live(config.engine) else "starting the engine")
        self.crew.begin()
        try:
            with self.pool.lease(config.engine) as lease:
                record.seconds["engine_start"] = time.monotonic() - began
                record.new_engine = not lease.reused
                self.phase("settling")
                hold()
                measurement = self._measure(config, lease, record)
        except EngineFailure as failure:
            return Infeasible(failure.kind, str(failure), failure.evidence)
        except TransientFault as fault:
            return Failed(str(fault))
        finally:
            record.seconds["total"] = time.monotonic() - began
            _keep_log(self.pool, self.ledger, record.number)
        self.ledger.write_requests(record.number, measurement.records, measurement.series)
        return Completed(estimate_all(measurement, self.plan.metrics))

    def _measure(self, config: TrialConfig, lease: Lease, record: TrialRecord) -> Measurement:
        """Measure, and again while the guard has doubts.

        Raises:
            EngineFailure: the engine died, or did not settle.
            TransientFault: the client was not good enough for its figures.
        """
        guard, began = self.plan.config.load.guard, time.monotonic()
        for again in range(guard.repeats + 1):
            if again:
                record.seconds["repeated"] = time.monotonic() - began
                self.phase("measuring again")
                lease.engine.reset()
            result, measurement = self._load(config, lease, record)
            unfit, record.disturbed = result.audit.problems(guard), disturbances(measurement, guard)
            record.audit = asdict(result.audit)
            doubts = [*unfit, *record.disturbed, *([result.drift] if result.drift else [])]
            if not doubts:
                break
            if again < guard.repeats:
                record.repeated += doubts
            if unfit and result.audit.client_cpu > guard.client_cpu_max / 2:
                self.crew.grow(self.plan.config.load.clients_max or os.cpu_count() or 1)
        if unfit:
            raise TransientFault(f"the client was not good enough for its figures: {'; '.join(unfit)}")
        if result.drift:
            doubt = f"; {'; '.join(record.disturbed)}" if record.disturbed else ""
            raise EngineFailure(FailureKind.UNSETTLED, f"{result.drift}: this load does not settle{doubt}")
        return measurement

    def _load(self, config: TrialConfig, lease: Lease, record: TrialRecord) -> tuple[LoadResult, Measurement]:
        """One load, and what was observed of it."""
        engine, plan = lease.engine, self.plan
        traffic = Traffic(plan.workload, config.request, plan.arrivals, plan.config.load, plan.config.study.seed)
        machine = Machine(lambda: [*engine.pids, *self.crew.pids]) if engine.pids else None
        with Telemetry(engine, machine).sampling() as telemetry:
            result = run_load(
                self.crew, engine, traffic, self.phase,
                first_answers=config.request.beam_size not in lease.answered,
                give_up_s=None if record.baseline else hopeless_after_s(plan.limits),
                precise=self._precise(config),
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
        return result, self._measurement(config, result.records, *window, series, engine.memory())

    def _measurement(
        self, config: TrialConfig, records: Sequence[RequestRecord], start_s: float, end_s: float,
        series: Mapping[str, Sequence[tuple[float, float]]] | None = None, memory: MemoryParts | None = None,
    ) -> Measurement:  # fmt: skip
        references = dict(enumerate(self.plan.workload.references))
        return Measurement(records, start_s, end_s, references, series or {}, memory, config.request.beam_size)

    def _precise(self, config: TrialConfig) -> Precise:
        """Whether every metric named in `load.precision` is known well enough."""
        targets = self.plan.config.load.precision

        def precise(records: Sequence[RequestRecord], start_s: float, end_s: float) -> bool:
            measurement = self._measurement(config, records, start_s, end_s)
            found = {name: self.plan.metrics[name].estimate(measurement) for name in targets}
            return all(e is None or relative_half_width(e) <= targets[name] for name, e in found.items())

        return precise


def relative_half_width(estimate: Estimate) -> float:
    """Half of the interval as a share of the value; infinite at a value of zero, unless it is exact."""
    half = (estimate.high - estimate.low) / 2
    return half / abs(estimate.value) if estimate.value else (0.0 if half == 0 else float("inf"))


def estimate_all(measurement: Measurement, metrics: Mapping[str, Objective]) -> dict[str, Estimate]:
    """Every metric that applies."""
    found = {name: metric.estimate(measurement) for name, metric in metrics.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def _keep_log(pool: EnginePool, ledger: Ledger, number: int) -> None:
    log = pool.last_log()
    if log is not None and log.is_file():
        shutil.copyfile(log, ledger.trial_folder(number) / "engine.log")
