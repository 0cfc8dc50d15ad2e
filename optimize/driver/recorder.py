"""Where a trial's result goes: to storage first, then to disk, then to tracking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from objectives import Direction, Estimate
from optimize.decision.constraints import RUNS, UNMEASURED, broken_without_figures, violations
from optimize.driver.known_failures import KnownFailures
from optimize.driver.progress import Progress
from optimize.errors import EngineFailure, FailureKind
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Completed, Evaluation, Failed, Infeasible, Role, State
from optimize.plan import Plan
from optimize.search.space import QUANTIZATION
from optimize.study.confirmation import first_reading
from optimize.study.lifecycle import TAKEN, tell_failed
from optimize.study.trial_attributes import attributes_of
from optimize.study.trials import IDLE, UNSPENT, baseline_estimates, levelled_quality, measured, ratios_of
from optimize.tracking.dashboard import keep_log
from optimize.tracking.tracker import Tracker

if TYPE_CHECKING:
    import optuna


class Recorder:
    """Records the results of trials.

    Args:
        plan: The study's parts.
        study: Optuna's study.
        ledger: Takes the records.
        tracker: Mirrors them to MLflow.
        progress: Shows them.
        known: Remembers what failed.
        broken_recipes: Recipe name -> why it does not run here.
    """

    def __init__(
        self, plan: Plan, study: optuna.Study, ledger: Ledger, tracker: Tracker, progress: Progress,
        known: KnownFailures, broken_recipes: Mapping[str, EngineFailure],
    ) -> None:  # fmt: skip
        self._plan, self._study, self._ledger = plan, study, ledger
        self._tracker, self._progress, self._known = tracker, progress, known
        self._broken_recipes, self._unspent = broken_recipes, 0

    def tell(self, trial: optuna.Trial, record: TrialRecord, evaluation: Evaluation) -> bool:
        """Storage first, then disk, then tracking: a kill in between loses nothing that was told.

        Returns:
            False where storage had given the trial up meanwhile: then it is not told, and the record says so.
        """
        self._conclude(record, evaluation)
        taken = False
        try:
            self._tell_storage(trial, record)
        except TAKEN:
            taken = True
            record.state, record.reason = State.FAILED, "storage had given this trial up: its driver was not heard of"
        if not taken:
            self._known.add(record)
        self._ledger.write(record)
        self._tracker.end(record, None if taken else trial)
        ended = record.state is not State.FAILED and record.role is not Role.CONFIRMATION
        self._progress.finished(record, ended and not trial.user_attrs.get(UNSPENT), self._best)
        return not taken

    def _tell_storage(self, trial: optuna.Trial, record: TrialRecord) -> None:
        for name, value in attributes_of(record).items():
            trial.set_user_attr(name, value)
        keep_log(self._plan.config.tracking.storage_artifacts, trial, self._ledger.log(record.number))
        trial.set_user_attr(UNSPENT, self._is_unspent(record))
        trial.set_user_attr(IDLE, [k for k in trial.params if not self._plan.space.counts(k, trial.params)])
        if record.state is State.FAILED:
            tell_failed(self._study, trial)
            return
        for name, violation in record.violations.items():
            trial.set_constraint(name, violation)
        self._study.tell(trial, self._values(record))

    def _is_unspent(self, record: TrialRecord) -> bool:
        """Whether a trial costs no budget, as its recipe was known not to run here; but a sampler that asks for nothing
        else must come to an end."""
        unspent = record.params.get(QUANTIZATION) in self._broken_recipes
        self._unspent += unspent
        return unspent and self._unspent <= self._plan.config.study.trials

    def _conclude(self, record: TrialRecord, evaluation: Evaluation) -> None:
        limits = self._plan.limits
        match evaluation.outcome:
            case Completed(estimates):
                missing = [name for name in self._plan.objectives if name not in estimates]
                found = self._violations(record.role, estimates, evaluation.paired)
                record.conclude(evaluation, found | ({RUNS: UNMEASURED} if missing else {}), missing)
            case Infeasible(kind):
                record.conclude(evaluation, broken_without_figures(limits, kind is FailureKind.TOO_SLOW))
            case Failed():
                record.conclude(evaluation)

    def _violations(self, role: Role, estimates: Mapping[str, Estimate], paired: Mapping[str, Any]) -> dict[str, float]:
        baseline = dict(estimates) if role is Role.BASELINE else baseline_estimates(self._study)
        figures = _levelled(estimates, paired, baseline)
        return violations(self._plan.limits, figures, baseline, ratios_of(paired))

    def _values(self, record: TrialRecord) -> list[float]:
        """Values to tell: as measured, or the worst seen so far for a configuration that cannot be measured."""
        values, figures = [], _levelled(record.estimates, record.paired, baseline_estimates(self._study))
        for place, (name, objective) in enumerate(self._plan.objectives.items()):
            if record.state is State.COMPLETED:
                values.append(figures[name].value)
            else:
                seen = [t.values[place] for t in measured(self._study)]
                worst = min if objective.direction is Direction.MAXIMIZE else max
                values.append(float(worst(seen, default=0.0)))
        return values

    def _best(self) -> str:
        found = first_reading(self._study)
        if found is None:
            return ""
        return f"trial {found.pick.number} ({found.score.value:.2f}x vLLM's defaults)"


def _levelled(
    estimates: Mapping[str, Estimate], paired: Mapping[str, Any], baseline: Mapping[str, Estimate] | None
) -> dict[str, Estimate]:
    """The figures, with quality that rests on few prompts as it would be on all of the baseline's."""
    return {**estimates, **levelled_quality(estimates, paired, baseline or {})}
