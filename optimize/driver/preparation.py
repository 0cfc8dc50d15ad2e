"""From a trial that was asked for to the job that measures it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from optimize.decision.futility import Futility
from optimize.driver.baseline import Baseline
from optimize.driver.known_failures import KnownFailures
from optimize.driver.session import Session
from optimize.engine.base import TrialConfig
from optimize.evaluation.answers import Answers, answers_key
from optimize.evaluation.auto_level import is_auto
from optimize.executor.base import Job
from optimize.ledger import TrialRecord
from optimize.outcome import ROLE, Infeasible, Role
from optimize.search.knobs import QUANTIZATION
from optimize.study.trial_attributes import CONFIRMS, role_of
from optimize.study.trials import (
    baseline_estimates,
    baseline_pace,
    candidates,
    paired_so_far,
    quality_so_far,
    ratios_of,
    trial_of,
)

if TYPE_CHECKING:
    import optuna


class Preparation:
    """Prepares the trials of a session.

    Args:
        session: The session.
        baseline: Resolves the baseline's configuration.
        failures: Configurations that are known to fail.
    """

    def __init__(self, session: Session, baseline: Baseline, failures: KnownFailures) -> None:
        self._session, self._baseline, self._failures = session, baseline, failures
        self.answers = Answers(session.ledger)

    def begin(self, trial: optuna.Trial, asked_at: float) -> TrialRecord:
        """The record of a trial that begins, shown on the terminal.

        Args:
            trial: Optuna's trial.
            asked_at: `time.monotonic()` before the study was asked for it.
        """
        study, role = self._session.study, role_of(trial.user_attrs)
        record = TrialRecord(
            study=study.study_name, number=trial.number, role=role, params=dict(trial.params), config={},
            signature=dict(self._session.plan.signature), started_at=time.time(),
            seconds={"ask": time.monotonic() - asked_at}, confirms=trial.user_attrs.get(CONFIRMS),
            pace=baseline_pace(study),
        )  # fmt: skip
        record.baseline = role is Role.BASELINE or self._is_baseline(record.confirms)
        trial.set_user_attr(ROLE, str(role))
        self._session.progress.trial(record)
        return record

    def _is_baseline(self, number: int | None) -> bool:
        return number is not None and role_of(trial_of(self._session.study, number).user_attrs) is Role.BASELINE

    def resolve(self, record: TrialRecord) -> TrialConfig | Infeasible:
        """The configuration to run, or why it need not be run: it is known to fail."""
        failure = self._session.broken_recipes.get(str(record.params.get(QUANTIZATION)))
        if failure is not None:
            return Infeasible(failure.kind, str(failure), failure.evidence)
        config = self._baseline.config_of(record.params, record.baseline)
        command = self._session.plan.launcher.deploy_command(config.engine)
        record.config = {**config.shown(), "engine_key": config.engine.key, "deploy_command": command}
        self._session.ledger.write(record)
        self._session.tracker.begin(record)
        if record.role is Role.CONFIRMATION:
            return config  # a confirmation is to show whether it fails
        return self._failures.find(config) or config

    def job(self, config: TrialConfig, record: TrialRecord, hold: Callable[[], None]) -> Job:
        """The job for an executor.

        Args:
            config: The configuration to run.
            record: The trial's record.
            hold: Called before the load: from then on nothing may run in the background.
        """
        answers = self.answers.to_send(answers_key(config))
        plan = self._session.plan
        arrivals = plan.arrivals if is_auto(plan) else None
        return Job(config, record, self._futility(config, record), answers, hold, self._session.references, arrivals)

    def _futility(self, config: TrialConfig, record: TrialRecord) -> Futility | None:
        """The figures against which a trial's search for the capacity may be given up; None where nothing is."""
        plan, study = self._session.plan, self._session.study
        if record.role is not Role.SEARCH or not plan.config.load.capacity.search:
            return None
        rivals = [c for c in candidates(study) if c.feasible]
        directions = {name: objective.direction for name, objective in plan.objectives.items()}
        quality = quality_so_far(study).get(answers_key(config), {})
        paired = paired_so_far(study).get(answers_key(config), {})
        return Futility(plan.limits, directions, rivals, baseline_estimates(study) or {}, quality, ratios_of(paired))

    def is_same_engine(self, record: TrialRecord) -> bool:
        """Whether the engine of a measured trial is the one that its settings resolve to; the baseline's may differ."""
        return bool(self._baseline.config_of(record.params).engine.key == record.config["engine_key"])
