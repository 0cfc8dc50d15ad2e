"""Where a trial's result goes: to storage first, then to disk, then to tracking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from objectives import Direction, Estimate
from optimize.decision.constraints import RUNS, UNMEASURED, broken_without_figures, violations
from optimize.driver.known_failures import KnownFailures
from optimize.driver.session import Session
from optimize.errors import FailureKind
from optimize.ledger import TrialRecord
from optimize.outcome import Completed, Evaluation, Failed, Infeasible, Role, State
from optimize.search.knobs import QUANTIZATION
from optimize.study.confirmation import first_reading
from optimize.study.lifecycle import TAKEN
from optimize.study.queue import tell_failed
from optimize.study.trial_attributes import attributes_of
from optimize.study.trials import IDLE, UNSPENT, baseline_estimates, levelled_quality, measured_trials, ratios_of
from optimize.tracking.dashboard import keep_log

if TYPE_CHECKING:
    import optuna


class Recorder:
    """Records the results of trials.

    Args:
        session: The session.
        failures: Collects the configurations that fail.
    """

    def __init__(self, session: Session, failures: KnownFailures) -> None:
        self._session, self._failures = session, failures
        self._plan, self._study = session.plan, session.study
        self._unspent = 0

    def tell(self, trial: optuna.Trial, record: TrialRecord, evaluation: Evaluation) -> bool:
        """Tell a result to storage, then to disk, then to tracking: a kill in between loses nothing that was told.

        Returns:
            False where storage had given up the trial meanwhile: then the result is dropped, and the record says so.
        """
        self._conclude(record, evaluation)
        is_told = True
        try:
            self._tell_storage(trial, record)
        except TAKEN:
            is_told = False
            record.state, record.reason = State.FAILED, "storage had given this trial up: its driver was not heard of"
        if is_told:
            self._failures.add(record)
        self._session.ledger.write(record)
        self._session.tracker.end(record, trial if is_told else None)
        ended = record.state is not State.FAILED and record.role is not Role.CONFIRMATION
        self._session.progress.finished(record, ended and not trial.user_attrs.get(UNSPENT), self._best)
        return is_told

    def _tell_storage(self, trial: optuna.Trial, record: TrialRecord) -> None:
        for name, value in attributes_of(record).items():
            trial.set_user_attr(name, value)
        keep_log(self._plan.config.tracking.storage_artifacts, trial, self._session.ledger.log(record.number))
        trial.set_user_attr(UNSPENT, self._is_unspent(record))
        trial.set_user_attr(IDLE, [k for k in trial.params if not self._plan.space.counts(k, trial.params)])
        if record.state is State.FAILED:
            tell_failed(self._study, trial)
            return
        for name, violation in record.violations.items():
            trial.set_constraint(name, violation)
        self._study.tell(trial, self._values(record))

    def _is_unspent(self, record: TrialRecord) -> bool:
        """Whether a trial costs no budget because its recipe is known not to run here.

        As many of them as the budget has trials: a sampler that asks for nothing else must come to an end.
        """
        unspent = record.params.get(QUANTIZATION) in self._session.broken_recipes
        self._unspent += unspent
        return unspent and self._unspent <= self._plan.config.study.trials

    def _conclude(self, record: TrialRecord, evaluation: Evaluation) -> None:
        limits = self._plan.limits
        match evaluation.outcome:
            case Completed(estimates):
                missing = [name for name in self._plan.objectives if name not in estimates]
                violated = self._violations(record.role, estimates, evaluation.paired)
                record.conclude(evaluation, violated | ({RUNS: UNMEASURED} if missing else {}), missing)
            case Infeasible(kind):
                record.conclude(evaluation, broken_without_figures(limits, kind is FailureKind.TOO_SLOW))
            case Failed():
                record.conclude(evaluation)

    def _violations(self, role: Role, estimates: Mapping[str, Estimate], paired: Mapping[str, Any]) -> dict[str, float]:
        baseline = dict(estimates) if role is Role.BASELINE else baseline_estimates(self._study)
        figures = _levelled(estimates, paired, baseline)
        return violations(self._plan.limits, figures, baseline, ratios_of(paired))

    def _values(self, record: TrialRecord) -> list[float]:
        """Objective values for Optuna: as measured, or the worst so far where the configuration cannot be measured."""
        values, figures = [], _levelled(record.estimates, record.paired, baseline_estimates(self._study))
        for place, (name, objective) in enumerate(self._plan.objectives.items()):
            if record.state is State.COMPLETED:
                values.append(figures[name].value)
            else:
                measurements = [t.values[place] for t in measured_trials(self._study)]
                worst = min if objective.direction is Direction.MAXIMIZE else max
                values.append(float(worst(measurements, default=0.0)))
        return values

    def _best(self) -> str:
        """The best trial so far, for the terminal; empty before there is one."""
        best = first_reading(self._study)
        return "" if best is None else f"trial {best.pick.number} ({best.score.value:.2f}× vLLM's defaults)"


def _levelled(
    estimates: Mapping[str, Estimate], paired: Mapping[str, Any], baseline: Mapping[str, Estimate] | None
) -> dict[str, Estimate]:
    """The figures, with quality that rests on few prompts as it would be on all of the baseline's."""
    return {**estimates, **levelled_quality(estimates, paired, baseline or {})}
