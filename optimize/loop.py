"""The ask/tell loop: asks the study, evaluates on live engines, tells storage first, then disk, then tracking."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from objectives import Direction
from optimize.answers import Answers, depends_on
from optimize.bounds import RUNS, UNMEASURED, violations
from optimize.budget import Budget
from optimize.confirm import Confirmation, first_reading
from optimize.dashboard import keep_log
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import EngineFailure, OptimizeError, TransientFault
from optimize.evaluate import Evaluator
from optimize.history import best_points, failures_elsewhere
from optimize.known import KnownFailures
from optimize.ledger import BASELINE, CONFIRMATION, ROLE, SEARCH, Ledger, TrialRecord
from optimize.load.crew import Crew
from optimize.outcome import Completed, Failed, Infeasible, Outcome
from optimize.plan import Plan
from optimize.progress import Progress
from optimize.prospects import Prospects
from optimize.reuse import NEW_ENGINE, Reuse
from optimize.study import (
    CONFIRMS,
    IDLE,
    RETRIES,
    baseline_estimates,
    candidates,
    enqueue,
    enqueue_again,
    is_queued,
    measured,
    quality_so_far,
    tell_failed,
    trial_of,
)
from optimize.tracking import Tracker

if TYPE_CHECKING:
    import optuna

_STORED = (
    "estimates", "feasible", "reason", "config", "signature", "seconds", "state", "disturbed", "answers_key",
    "cut_short",
)  # fmt: skip
_BASELINE_PARAMS, _BASELINE_OUTSIDE, _WARM_STARTED = "baseline_params", "baseline_outside", "warm_started"


class Loop:
    """Asks, evaluates, tells, until the budget is spent.

    Args:
        plan: The study's parts.
        study: Optuna's study, opened by `open_study`.
        checkpoints: Recipe name -> checkpoint.
        broken_recipes: Recipe name -> why no checkpoint could be made.
        pool: Lends engines.
        crew: Sends the loads.
        tracker: Mirrors trials to MLflow.
        progress: Shows them.
        deadline: `time.monotonic()` after which the search asks for no further trial; None for no limit.
        earlier: Studies to start from.
    """

    def __init__(
        self, plan: Plan, study: optuna.Study, checkpoints: Mapping[str, str],
        broken_recipes: Mapping[str, EngineFailure], pool: EnginePool, crew: Crew, tracker: Tracker,
        progress: Progress, deadline: float | None, earlier: Sequence[optuna.Study] = (),
    ) -> None:  # fmt: skip
        self._plan, self._study, self._pool = plan, study, pool
        self._checkpoints, self._broken_recipes = checkpoints, broken_recipes
        self._tracker, self._progress = tracker, progress
        self._budget = Budget(plan, study, deadline)
        self._ledger = Ledger(plan.folder)
        self._evaluator = Evaluator(plan, pool, crew, self._ledger, progress.phase, Answers(self._ledger))
        self._known = KnownFailures(self._ledger.records(), failures_elsewhere(plan, earlier))
        self._earlier = earlier
        self._reuse = Reuse(study, plan.space.request_knobs) if plan.config.study.reuse_engines else None
        self._failures_in_a_row = 0
        self._live_params: dict[str, Any] | None = None

    def run(self) -> None:
        """Spend what is left of the budget, then confirm what it found.

        Raises:
            OptimizeError: the baseline cannot run, or too many trials in a row gave nothing.
            KeyboardInterrupt: after the running trial was ended and queued again.
        """
        if baseline_estimates(self._study) is None:
            self._run_baseline()
        self._start_from_history()
        while (why := self._budget.spent()) is None:
            self._run_next()
            if self._failures_in_a_row >= self._plan.config.study.max_failures_in_a_row:
                raise OptimizeError(
                    f"{self._failures_in_a_row} trials in a row gave no measurement (study.max_failures_in_a_row): "
                    "see the reasons above, narrow the search space, and run the same command to go on"
                )
        self._progress.say(f"the search ends: {why}")
        Confirmation(self._study, self._plan.config.confirm, self._plan.config.study.seed, self._run_next).run()

    # --- the baseline -------------------------------------------------------------------------------------------

    def _run_baseline(self) -> None:
        """Measure vLLM's defaults first: every gain is relative to them, so without them there is no study."""
        params = self._study.user_attrs.get(_BASELINE_PARAMS) or self._ask_the_engine_for_defaults()
        if not is_queued(self._study, BASELINE):
            enqueue(self._study, params, **{ROLE: BASELINE})
        for _ in range(self._plan.config.executor.retries + 1):
            self._run_next()
            if baseline_estimates(self._study) is not None:
                return
        record = list(self._ledger.records())[-1]
        raise OptimizeError(f"the baseline (vLLM's defaults) gave no measurement: {record.reason}")

    def _start_from_history(self) -> None:
        """Queue the best configurations of earlier studies, once."""
        if not self._earlier or self._study.user_attrs.get(_WARM_STARTED):
            return
        points = best_points(self._plan, self._earlier, self._study.user_attrs[_BASELINE_PARAMS])
        for point in points:
            enqueue(self._study, point)
        self._study.set_user_attr(_WARM_STARTED, [study.study_name for study in self._earlier])
        names = ", ".join(study.study_name for study in self._earlier)
        self._progress.say(f"starting from {names}: {len(points)} configurations to try first")

    def _ask_the_engine_for_defaults(self) -> dict[str, Any]:
        """Start an engine without flags and read what it runs with; the baseline trial then reuses it."""
        space, config = self._plan.space, self._plan.space.vllm_defaults(self._checkpoints)
        effective: dict[str, Any] = {}
        if not self._plan.launcher.request_knobs_only:
            self._progress.phase("starting vLLM with its defaults")
            try:
                with self._pool.lease(config.engine) as lease:
                    effective = lease.engine.effective(space.engine_flags)
            except (EngineFailure, TransientFault) as failure:
                raise OptimizeError(f"vLLM's own defaults do not run here: {failure}") from failure
        params, outside = space.baseline_params(effective)
        for knob in outside:
            self._progress.say(
                f"note: vLLM's default {knob} lies outside the search space; the baseline uses {params[knob]} instead"
            )
        self._study.set_user_attr(_BASELINE_PARAMS, params)
        self._study.set_user_attr(_BASELINE_OUTSIDE, outside)
        return params

    def _config_of(self, params: Mapping[str, Any], baseline: bool = False) -> TrialConfig:
        if baseline and not self._study.user_attrs.get(_BASELINE_OUTSIDE):
            return self._plan.space.vllm_defaults(self._checkpoints)
        return self._plan.space.resolve(params, self._checkpoints)

    # --- one trial ----------------------------------------------------------------------------------------------

    def _run_next(self) -> None:
        """Ask, evaluate, tell."""
        asked_at = time.monotonic()
        if self._reuse is not None:
            self._reuse.offer(self._live_params)
        trial = self._study.ask(dict(self._plan.space.distributions))
        role = trial.user_attrs.get(ROLE, SEARCH)
        record = TrialRecord(
            study=self._study.study_name, number=trial.number, role=role, params=dict(trial.params), config={},
            signature=dict(self._plan.signature), started_at=time.time(),
            seconds={"ask": time.monotonic() - asked_at}, confirms=trial.user_attrs.get(CONFIRMS),
        )  # fmt: skip
        record.baseline = role == BASELINE or self._is_baseline(record.confirms)
        trial.set_user_attr(ROLE, role)
        self._progress.trial(record)
        with ExitStack() as quiet:
            try:
                outcome = self._evaluate(record, lambda: quiet.enter_context(self._tracker.held()))
            except KeyboardInterrupt:
                self._tell(trial, record, Failed("interrupted"))
                enqueue_again(self._study, trial)
                raise
            self._tell(trial, record, outcome)
        self._failures_in_a_row = 0 if isinstance(outcome, Completed) else self._failures_in_a_row + 1
        self._retry(trial, outcome)
        self._live_params = dict(trial.params) if self._serves_the_like(record) else None
        record.seconds["wall"] = time.monotonic() - asked_at
        self._ledger.write(record)

    def _is_baseline(self, number: int | None) -> bool:
        return number is not None and trial_of(self._study, number).user_attrs.get(ROLE) == BASELINE

    def _serves_the_like(self, record: TrialRecord) -> bool:
        """Whether the live engine could serve this trial's settings with another request."""
        if record.state != "completed":
            return False
        return self._pool.is_live(self._config_of(record.params).engine)

    def _evaluate(self, record: TrialRecord, hold: Callable[[], None]) -> Outcome:
        broken = self._broken_recipes.get(str(record.params.get("quantization")))
        if broken is not None:
            return Infeasible(broken.kind, str(broken), broken.evidence)
        config = self._config_of(record.params, record.baseline)
        command = self._plan.launcher.deploy_command(config.engine)
        record.config = {**asdict(config), "engine_key": config.engine.key, "deploy_command": command}
        self._ledger.write(record)
        self._tracker.begin(record)
        known = self._known.of(config) if record.role != CONFIRMATION else None  # that is to be seen again
        if known is not None:
            return known
        return self._evaluator.evaluate(config, record, hold, self._prospects(config, record))

    def _prospects(self, config: TrialConfig, record: TrialRecord) -> Prospects | None:
        """What is known before a trial of the search; others are measured in full."""
        if record.role != SEARCH or not self._plan.config.study.cut_short:
            return None
        rivals = [c for c in candidates(self._study) if c.feasible]
        directions = {name: o.direction for name, o in self._plan.objectives.items()}
        known = quality_so_far(self._study).get(depends_on(config), {})
        return Prospects(self._plan.limits, directions, rivals, baseline_estimates(self._study) or {}, known)

    def _tell(self, trial: optuna.Trial, record: TrialRecord, outcome: Outcome) -> None:
        """Storage first, then disk, then tracking: a kill in between loses nothing that was told."""
        self._fill(record, outcome)
        for name in _STORED:
            value = getattr(record, name)
            as_json = {n: e.to_dict() for n, e in value.items()} if name == "estimates" else value
            trial.set_user_attr(name, as_json)
        keep_log(self._plan.config.tracking.storage_artifacts, trial, self._ledger.log(record.number))
        trial.set_user_attr(NEW_ENGINE, record.new_engine)
        trial.set_user_attr(IDLE, [k for k in trial.params if not self._plan.space.counts(k, trial.params)])
        if record.state == "failed":
            tell_failed(self._study, trial)
        else:
            for name, violation in record.violations.items():
                trial.set_constraint(name, violation)
            trial.set_user_attr("imputed", record.state != "completed")
            self._study.tell(trial, self._values(record))
        self._known.add(record)
        self._ledger.write(record)
        self._tracker.end(record, trial)
        self._progress.finished(record, record.state != "failed" and record.role != CONFIRMATION, self._best())

    def _fill(self, record: TrialRecord, outcome: Outcome) -> None:
        record.ended_at = time.time()
        match outcome:
            case Completed(estimates):
                record.state, record.estimates = "completed", dict(estimates)
                baseline = dict(estimates) if record.role == BASELINE else baseline_estimates(self._study)
                record.violations = violations(self._plan.limits, estimates, baseline)
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
                record.violations = {
                    RUNS: UNMEASURED,
                    **{limit.name: UNMEASURED for limit in self._plan.limits},
                }
            case Failed(reason):
                record.state, record.reason = "failed", reason
        record.feasible = record.state == "completed" and all(v <= 0 for v in record.violations.values())

    def _values(self, record: TrialRecord) -> list[float]:
        """Values to tell: as measured, or the worst seen so far for a configuration that cannot be measured."""
        values = []
        for name, objective in self._plan.objectives.items():
            if record.state == "completed":
                values.append(record.estimates[name].value)
            else:
                seen = [t.user_attrs["estimates"][name]["value"] for t in measured(self._study)]
                worst = min if objective.direction is Direction.MAXIMIZE else max
                values.append(float(worst(seen, default=0.0)))
        return values

    def _retry(self, trial: optuna.Trial, outcome: Outcome) -> None:
        retries = int(trial.user_attrs.get(RETRIES, 0))
        if isinstance(outcome, Failed) and retries < self._plan.config.executor.retries:
            enqueue_again(self._study, trial, 1)

    def _best(self) -> str:
        found = first_reading(self._study)
        if found is None:
            return ""
        return f"trial {found.pick.number} ({found.score.value:.2f}x vLLM's defaults)"
