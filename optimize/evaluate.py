"""One configuration to one outcome: the only place where engine, load, telemetry and objectives meet."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping

from objectives import Estimate, Measurement, Objective
from optimize.bounds import hopeless_after_s
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool, Lease
from optimize.errors import EngineFailure, TransientFault
from optimize.ledger import BASELINE, Ledger, TrialRecord
from optimize.load.generator import run_load
from optimize.outcome import Completed, Failed, Infeasible, Outcome
from optimize.plan import Plan
from optimize.telemetry import Telemetry

Phase = Callable[[str], None]


def evaluate(
    config: TrialConfig, record: TrialRecord, plan: Plan, pool: EnginePool, ledger: Ledger, phase: Phase,
    hold: Callable[[], None],
) -> Outcome:  # fmt: skip
    """Measure one configuration on a live engine.

    Raw records, telemetry and the engine's log are left in the trial's folder; phase times in `record.seconds`.

    Args:
        config: What to run.
        record: The trial's record, its times to be filled in.
        plan: Workload, load and metrics.
        pool: Lends the engine.
        ledger: Takes the raw data.
        phase: Told of each phase as it begins.
        hold: Called before the load: from then on nothing of ours may run in the background.
    """
    began = time.monotonic()
    phase("reusing the live engine" if pool.is_live(config.engine) else "starting the engine")
    try:
        with pool.lease(config.engine) as lease:
            record.seconds["engine_start"] = time.monotonic() - began
            record.new_engine = not lease.reused
            phase("settling")
            hold()
            measurement = _measure(config, lease, record, plan, phase)
    except EngineFailure as failure:
        return Infeasible(failure.kind, str(failure), failure.evidence)
    except TransientFault as fault:
        return Failed(str(fault))
    finally:
        record.seconds["total"] = time.monotonic() - began
        _keep_log(pool, ledger, record.number)
    ledger.write_requests(record.number, measurement.records, measurement.series)
    return Completed(estimate_all(measurement, plan.metrics))


def _measure(config: TrialConfig, lease: Lease, record: TrialRecord, plan: Plan, phase: Phase) -> Measurement:
    engine, settings = lease.engine, plan.config
    with Telemetry(engine).sampling() as telemetry:
        result = run_load(
            engine, plan.workload, config.request, settings.load, plan.arrivals, settings.study.seed, phase,
            first_answers=config.request.beam_size not in lease.answered,
            give_up_s=None if record.role == BASELINE else hopeless_after_s(plan.limits),
        )  # fmt: skip
    lease.answered.add(config.request.beam_size)
    record.seconds |= {
        "first_answer": result.first_answer_s,
        "warmup": result.window_start_s,
        "window": result.window_end_s - result.window_start_s,
        "drain": result.drained_s - result.window_end_s,
    }
    return Measurement(
        records=result.records,
        window_start_s=result.window_start_s,
        window_end_s=result.window_end_s,
        references=dict(enumerate(plan.workload.references)),
        series=telemetry.series(result.began_at),
        memory=engine.memory(),
        beam_size=config.request.beam_size,
    )


def estimate_all(measurement: Measurement, metrics: Mapping[str, Objective]) -> dict[str, Estimate]:
    """Every metric that applies."""
    found = {name: metric.estimate(measurement) for name, metric in metrics.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def _keep_log(pool: EnginePool, ledger: Ledger, number: int) -> None:
    log = pool.last_log()
    if log is not None and log.is_file():
        shutil.copyfile(log, ledger.trial_folder(number) / "engine.log")
