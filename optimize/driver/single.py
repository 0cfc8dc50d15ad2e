"""One configuration measured outside a study."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from optimize.driver.progress import Progress
from optimize.engine.base import TrialConfig
from optimize.evaluation.evaluator import Evaluator
from optimize.ledger import TrialRecord
from optimize.outcome import Outcome, Role
from optimize.plan import Plan
from optimize.tracking.tracker import Tracker


def record_of(plan: Plan, number: int, role: Role, params: Mapping[str, Any], point: TrialConfig) -> TrialRecord:
    """The record of a measurement that is about to begin."""
    return TrialRecord(
        study=plan.config.study.name, number=number, role=role, params=dict(params),
        config={
            **point.shown(), "engine_key": point.engine.key,
            "deploy_command": plan.launcher.deploy_command(point.engine),
        },
        signature=dict(plan.signature), started_at=time.time(),
    )  # fmt: skip


def measure_once(
    record: TrialRecord, point: TrialConfig, evaluator: Evaluator, tracker: Tracker, progress: Progress
) -> Outcome:
    """Measure a configuration, conclude its record, and pass it to the ledger and the tracker."""
    progress.trial(record)
    evaluator.ledger.write(record)
    tracker.begin(record)
    with ExitStack() as quiet:
        evaluation = evaluator.evaluate(point, record, lambda: quiet.enter_context(tracker.held()))
    record.conclude(evaluation)
    evaluator.ledger.write(record)
    tracker.end(record)
    progress.finished(record, True, str)
    return evaluation.outcome
