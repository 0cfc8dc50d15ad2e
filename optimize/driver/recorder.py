"""What becomes of a trial's outcome: told to storage first, then to disk, then to tracking."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from objectives import Direction, Estimate
from optimize.decision.constraints import RUNS, UNMEASURED, broken_without_figures, violations
from optimize.driver.engine_reuse import NEW_ENGINE
from optimize.driver.known_failures import KnownFailures
from optimize.driver.progress import Progress
from optimize.errors import EngineFailure, FailureKind
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import BASELINE, CONFIRMATION, Completed, Failed, Infeasible, Outcome
from optimize.plan import Plan
from optimize.search.space import QUANTIZATION
from optimize.study.confirmation import first_reading
from optimize.study.lifecycle import TAKEN, tell_failed
from optimize.study.trials import IDLE, UNSPENT, baseline_estimates, levelled_quality, measured, ratios_of
from optimize.tracking.dashboard import keep_log
from optimize.tracking.tracker import Tracker

if TYPE_CHECKING:
    import optuna

_STORED = (
    "estimates", "feasible", "reason", "config", "signature", "seconds", "state", "disturbed", "answers_key",
    "cut_short", "paired",
)  # fmt: skip


class Recorder:
    """Tells of trials.

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

    def tell(self, trial: optuna.Trial, record: TrialRecord, outcome: Outcome) -> bool:
        """Storage first, then disk, then tracking: a kill in between loses nothing that was told.

        Returns:
            False where storage had given the trial up meanwhile: then it is not told, and the record says so.
        """
        self._fill(record, outcome)
        taken = False
        try:
            self._tell_storage(trial, record)
        except TAKEN:
            taken = True
            record.state, record.reason = "failed", "storage had given this trial up: its driver was not heard of"
        if not taken:
            self._known.add(record)
        self._ledger.write(record)
        self._tracker.end(record, None if taken else trial)
        counts = record.state != "failed" and record.role != CONFIRMATION and not trial.user_attrs.get(UNSPENT)
        self._progress.finished(record, counts, self._best)
        return not taken

    def _tell_storage(self, trial: optuna.Trial, record: TrialRecord) -> None:
        for name in _STORED:
            value = getattr(record, name)
            as_json = {n: e.to_dict() for n, e in value.items()} if name == "estimates" else value
            trial.set_user_attr(name, as_json)
        keep_log(self._plan.config.tracking.storage_artifacts, trial, self._ledger.log(record.number))
        trial.set_user_attr(NEW_ENGINE, record.new_engine)
        trial.set_user_attr(UNSPENT, self._is_unspent(record))
        trial.set_user_attr(IDLE, [k for k in trial.params if not self._plan.space.counts(k, trial.params)])
        if record.state == "failed":
            tell_failed(self._study, trial)
            return
        for name, violation in record.violations.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr("imputed", record.state != "completed")
        self._study.tell(trial, self._values(record))

    def _is_unspent(self, record: TrialRecord) -> bool:
        """Whether a trial costs no budget, as its recipe was known not to run here; but a sampler that asks for nothing
        else must come to an end."""
        unspent = record.params.get(QUANTIZATION) in self._broken_recipes
        self._unspent += unspent
        return unspent and self._unspent <= self._plan.config.study.trials

    def _fill(self, record: TrialRecord, outcome: Outcome) -> None:
        record.ended_at = time.time()
        match outcome:
            case Completed(estimates):
                record.state, record.estimates = "completed", dict(estimates)
                baseline = dict(estimates) if record.role == BASELINE else baseline_estimates(self._study)
                figures = self._figures(record, baseline)
                record.violations = violations(self._plan.limits, figures, baseline, ratios_of(record.paired))
                missing = [name for name in self._plan.objectives if name not in estimates]
                if missing:
                    record.state, record.reason = "infeasible", f"{', '.join(missing)} could not be measured"
                    record.violations[RUNS] = UNMEASURED
            case Infeasible(kind, reason, evidence):
                record.state, record.reason, record.evidence = (
                    "infeasible",
                    f"{kind}: {reason}",
                    list(evidence),
                )
                record.violations = broken_without_figures(self._plan.limits, kind is FailureKind.TOO_SLOW)
            case Failed(reason):
                record.state, record.reason = "failed", reason
        record.feasible = record.state == "completed" and all(v <= 0 for v in record.violations.values())

    def _figures(self, record: TrialRecord, baseline: Mapping[str, Estimate] | None) -> dict[str, Estimate]:
        """What was measured; quality, where it rests on few prompts, as it would be on all of the baseline's."""
        return {**record.estimates, **levelled_quality(record.estimates, record.paired, baseline or {})}

    def _values(self, record: TrialRecord) -> list[float]:
        """Values to tell: as measured, or the worst seen so far for a configuration that cannot be measured."""
        values, figures = [], self._figures(record, baseline_estimates(self._study))
        for place, (name, objective) in enumerate(self._plan.objectives.items()):
            if record.state == "completed":
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
