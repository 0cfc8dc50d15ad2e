"""The ask/tell loop: asks the study, has trials run where there is room, and tells what became of them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optimize.decision.futility import Futility
from optimize.driver.baseline import Baseline
from optimize.driver.budget import Budget
from optimize.driver.engine_reuse import EngineReuse
from optimize.driver.known_failures import KnownFailures
from optimize.driver.progress import Progress
from optimize.driver.recorder import Recorder
from optimize.engine.base import TrialConfig
from optimize.errors import EngineFailure, OptimizeError
from optimize.evaluation.answers import Answers, answers_key
from optimize.executor.base import Done, Executor, Job
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import ROLE, Completed, Evaluation, Failed, Infeasible, Outcome, Role
from optimize.plan import Plan
from optimize.search.space import QUANTIZATION
from optimize.study.confirmation import Confirmation
from optimize.study.coordination import Claims
from optimize.study.lifecycle import RETRIES, enqueue, enqueue_again, is_queued
from optimize.study.trial_attributes import CONFIRMS, record_of, role_of
from optimize.study.trials import (
    UNSPENT,
    baseline_estimates,
    candidates,
    paired_so_far,
    quality_so_far,
    ratios_of,
    trial_of,
)
from optimize.study.warm_start import failures_elsewhere, queue_best
from optimize.tracking.tracker import Tracker

if TYPE_CHECKING:
    import optuna


@dataclass(slots=True)
class Running:
    """A trial under way.

    Attributes:
        trial: Optuna's.
        record: As it was begun.
        asked_at: `time.monotonic()` before it was asked for.
        quiet: Holds the tracker still until the trial is told.
    """

    trial: optuna.Trial
    record: TrialRecord
    asked_at: float
    quiet: ExitStack


class Loop:
    """Asks, has trials run, tells, until the budget is spent.

    Args:
        plan: The study's parts.
        study: Optuna's study, opened by `open_study`.
        checkpoints: Recipe name -> checkpoint.
        broken_recipes: Recipe name -> why no checkpoint could be made.
        executor: Runs trials.
        tracker: Mirrors trials to MLflow.
        progress: Shows them.
        deadline: `time.monotonic()` after which the search asks for no further trial; None for no limit.
        earlier: Studies to start from.
    """

    def __init__(
        self, plan: Plan, study: optuna.Study, checkpoints: Mapping[str, str],
        broken_recipes: Mapping[str, EngineFailure], executor: Executor, tracker: Tracker,
        progress: Progress, deadline: float | None, earlier: Sequence[optuna.Study] = (),
    ) -> None:  # fmt: skip
        self._plan, self._study, self._executor = plan, study, executor
        self._broken_recipes, self._tracker, self._progress = broken_recipes, tracker, progress
        self._baseline = Baseline(plan, study, checkpoints, executor, progress)
        self._budget = Budget(plan, study, deadline)
        self._claims = Claims(study, plan.config.study.trials + 1)
        self._ledger = Ledger(plan.folder)
        self._answers = Answers(self._ledger)
        self._known = KnownFailures(self._ledger.records(), failures_elsewhere(plan, earlier))
        self._recorder = Recorder(plan, study, self._ledger, tracker, progress, self._known, broken_recipes)
        self._earlier = earlier
        self._engine_reuse = EngineReuse(study, plan.space.request_knobs) if plan.config.study.reuse_engines else None
        self._failures_in_a_row = 0
        self._running: dict[int, Running] = {}  # by trial number
        self._live_params: dict[int, dict[str, Any]] = {}  # by slot

    def run(self) -> None:
        """Spend what is left of the budget, then confirm what it found.

        Raises:
            OptimizeError: the baseline cannot run, or too many trials in a row gave nothing.
            KeyboardInterrupt: after the running trials were ended and queued again.
        """
        with self._claims:
            try:
                self._run()
            except BaseException:
                self._abandon()
                raise

    def _run(self) -> None:
        self._claims.reap()
        if baseline_estimates(self._study) is None:
            self._run_baseline()
        if self._earlier and (said := queue_best(self._plan, self._study, self._earlier, self._baseline.params())):
            self._progress.say(said)
        self._progress.say(f"the search ends: {self._search()}")
        confirm, seed = self._plan.config.confirm, self._plan.config.study.seed
        Confirmation(self._study, confirm, seed, drain=self._confirm).run()

    def _search(self) -> str:
        """Returns why it ended."""
        while True:
            self._drain(lambda _: self._budget.spent(self._claims.running(Role.BASELINE, Role.SEARCH)) is None)
            why = self._budget.spent()
            if why is not None and not self._claims.elsewhere(Role.SEARCH):
                return why
            self._claims.pause()  # the rest of the budget is under way elsewhere, and may fail

    def _confirm(self, more: Callable[[int], bool]) -> None:
        self._drain(more, anywhere=False)
        while self._claims.elsewhere(Role.CONFIRMATION):
            self._claims.pause()
            self._drain(more, anywhere=False)

    # --- the baseline -------------------------------------------------------------------------------------------

    def _run_baseline(self) -> None:
        """Measure vLLM's defaults first: every gain is relative to them, so without them there is no study."""
        params = self._baseline.params()
        if not is_queued(self._study, Role.BASELINE) and not self._claims.elsewhere(Role.BASELINE):
            enqueue(self._study, params, **{ROLE: Role.BASELINE})
        looked_again = not self._claims.shared
        while baseline_estimates(self._study) is None:
            if is_queued(self._study, Role.BASELINE):
                self._drain(lambda _: not self._running and is_queued(self._study, Role.BASELINE))
            elif self._claims.elsewhere(Role.BASELINE) or not looked_again:
                looked_again = not self._claims.elsewhere(Role.BASELINE)  # it may just be queued again
                self._claims.pause()
            else:
                tried = [r for r in self._ledger.records() if r.role == Role.BASELINE]
                reason = tried[-1].reason if tried else "another driver ran it"
                raise OptimizeError(f"the baseline (vLLM's defaults) gave no measurement: {reason}")

    # --- trials -------------------------------------------------------------------------------------------------

    def _drain(self, more: Callable[[int], bool], anywhere: bool = True) -> None:
        """Begin trials wherever there is room, while there are more, and return once the last of them is told.

        Args:
            more: Whether another trial is wanted in a slot.
            anywhere: One that is not wanted in a slot is not wanted in the others either.
        """
        while True:
            idle = self._executor.idle()
            begun = 0
            for slot in idle:
                wanted = more(slot)
                if not wanted and anywhere:
                    break
                begun += wanted and self._begin(slot)
            if idle and not begun and not self._running:
                return
            if self._running or not idle:
                self._settle(self._executor.wait())

    def _begin(self, slot: int) -> bool:
        """Ask, and have the trial run; False where it turned out to be somebody else's, or was told at once."""
        asked_at = time.monotonic()
        if self._engine_reuse is not None:
            self._engine_reuse.offer(self._live_params.get(slot))
        trial = self._ask()
        if not self._claims.claim(trial):
            return False
        record = self._open(trial, asked_at)
        self._running[trial.number] = Running(trial, record, asked_at, ExitStack())
        config, outcome = self._resolve(record)
        if config is None or outcome is not None:
            self._end(self._running[trial.number], record, Evaluation(outcome or Failed("not resolved")))
            return True
        self._executor.submit(slot, self._job(config, self._running[trial.number]))
        return True

    def _ask(self) -> optuna.Trial:
        with warnings.catch_warnings():  # heartbeats without `study.optimize` are our own doing; see `Claims`
            warnings.filterwarnings("ignore", "Heartbeat of storage")
            return self._study.ask(dict(self._plan.space.distributions))

    def _open(self, trial: optuna.Trial, asked_at: float) -> TrialRecord:
        """A record for a trial that begins."""
        role = role_of(trial.user_attrs)
        record = TrialRecord(
            study=self._study.study_name, number=trial.number, role=role, params=dict(trial.params), config={},
            signature=dict(self._plan.signature), started_at=time.time(),
            seconds={"ask": time.monotonic() - asked_at}, confirms=trial.user_attrs.get(CONFIRMS),
        )  # fmt: skip
        record.baseline = role == Role.BASELINE or self._is_baseline(record.confirms)
        trial.set_user_attr(ROLE, str(role))
        self._progress.trial(record)
        return record

    def _is_baseline(self, number: int | None) -> bool:
        return number is not None and trial_of(self._study, number).user_attrs.get(ROLE) == Role.BASELINE

    def _resolve(self, record: TrialRecord) -> tuple[TrialConfig | None, Outcome | None]:
        """What to run, or the outcome where that is known already."""
        broken = self._broken_recipes.get(str(record.params.get(QUANTIZATION)))
        if broken is not None:
            return None, Infeasible(broken.kind, str(broken), broken.evidence)
        config = self._baseline.config_of(record.params, record.baseline)
        command = self._plan.launcher.deploy_command(config.engine)
        record.config = {**asdict(config), "engine_key": config.engine.key, "deploy_command": command}
        self._ledger.write(record)
        self._tracker.begin(record)
        if record.role == Role.CONFIRMATION:
            return config, None  # that is to be seen again
        for trial in self._claims.others():
            self._known.add(record_of(self._study, trial))
        return config, self._known.of(config)

    def _job(self, config: TrialConfig, running: Running) -> Job:
        futility, answers = self._futility(config, running.record), self._answers.given(answers_key(config))
        return Job(config, running.record, futility, answers, lambda: running.quiet.enter_context(self._tracker.held()))

    def _futility(self, config: TrialConfig, record: TrialRecord) -> Futility | None:
        """What is known before a trial of the search; others are measured in full."""
        if record.role != Role.SEARCH or not self._plan.config.study.cut_short:
            return None
        rivals = [c for c in candidates(self._study) if c.feasible]
        directions = {name: o.direction for name, o in self._plan.objectives.items()}
        known = quality_so_far(self._study).get(answers_key(config), {})
        paired = paired_so_far(self._study).get(answers_key(config), {})
        reference = baseline_estimates(self._study) or {}
        return Futility(self._plan.limits, directions, rivals, reference, known, ratios_of(paired))

    def _settle(self, done: Done | None) -> None:
        """Take note of a trial that has run."""
        if done is None:
            return
        running = self._running[done.record.number]
        self._end(running, done.record, done.evaluation)
        if isinstance(done.evaluation.outcome, Completed):
            self._answers.read(done.record)
        self._live_params.pop(done.slot, None)
        if done.live and self._serves_the_like(done.record):
            self._live_params[done.slot] = dict(running.trial.params)

    def _end(self, running: Running, record: TrialRecord, evaluation: Evaluation) -> None:
        """Tell, try again what failed for a passing reason, and stop a run of failures.

        Raises:
            OptimizeError: too many trials in a row gave nothing.
        """
        with running.quiet:
            told = self._recorder.tell(running.trial, record, evaluation)
        del self._running[record.number]
        self._claims.release(running.trial)
        if not running.trial.user_attrs.get(UNSPENT):
            completed = isinstance(evaluation.outcome, Completed)
            self._failures_in_a_row = 0 if completed else self._failures_in_a_row + 1
        retries = int(running.trial.user_attrs.get(RETRIES, 0))
        if told and isinstance(evaluation.outcome, Failed) and retries < self._plan.config.executor.retries:
            enqueue_again(self._study, running.trial, 1)
        record.seconds["wall"] = time.monotonic() - running.asked_at
        self._ledger.write(record)
        if record.role == Role.SEARCH and self._failures_in_a_row >= self._plan.config.study.max_failures_in_a_row:
            raise OptimizeError(
                f"{self._failures_in_a_row} trials in a row gave no measurement (study.max_failures_in_a_row): "
                "see the reasons above, narrow the search space, and run the same command to go on"
            )

    def _serves_the_like(self, record: TrialRecord) -> bool:
        """Whether the engine of a trial could serve its settings with another request."""
        if record.state != "completed":
            return False
        return bool(self._baseline.config_of(record.params).engine.key == record.config["engine_key"])

    def _abandon(self) -> None:
        """End what is running, and queue it again."""
        self._executor.interrupt()
        for running in list(self._running.values()):
            with running.quiet:
                if self._recorder.tell(running.trial, running.record, Evaluation(Failed("interrupted"))):
                    enqueue_again(self._study, running.trial)
            self._running.pop(running.record.number)
