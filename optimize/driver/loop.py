"""The ask/tell loop: asks the study for trials, has them run wherever a slot is free, and tells their results."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from optimize.driver import look
from optimize.driver.baseline import Baseline
from optimize.driver.budget import Budget
from optimize.driver.engine_reuse import EngineReuse
from optimize.driver.known_failures import KnownFailures
from optimize.driver.preparation import Preparation
from optimize.driver.recorder import Recorder
from optimize.driver.session import Session
from optimize.errors import OptimizeError
from optimize.executor.base import Done, Executor
from optimize.ledger import TrialRecord
from optimize.outcome import ROLE, Completed, Evaluation, Failed, Infeasible, Role, State
from optimize.study.confirmation import Confirmation, first_reading
from optimize.study.coordination import Coordinator
from optimize.study.parsimony import queue_reduced
from optimize.study.queue import RETRIES, enqueue, is_queued, requeue
from optimize.study.trial_attributes import record_of
from optimize.study.trials import UNSPENT, baseline_estimates, is_complete
from optimize.study.warm_start import failures_elsewhere, queue_best

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True)
class Running:
    """A trial that is under way.

    Attributes:
        trial: Optuna's trial.
        record: Its record when it began.
        asked_at: `time.monotonic()` before the study was asked for it.
        hold: Keeps the tracker from working until the trial is told.
    """

    trial: optuna.Trial
    record: TrialRecord
    asked_at: float
    hold: ExitStack


class Loop:
    """Runs the search and the confirmation of a study.

    Args:
        session: The session.
        executor: Runs trials; entered.
        await_quiet: Waits until nobody disturbs the machine; None looks at it.
    """

    def __init__(self, session: Session, executor: Executor, await_quiet: Callable[[], None] | None = None) -> None:
        self._session, self._study, self._executor = session, session.study, executor
        self._await_quiet = await_quiet or partial(look.await_quiet, session.plan, session.progress, session.deadline)
        self._settings = session.plan.config.study
        self._baseline = Baseline(session, executor)
        self._budget = Budget(session)
        self._coordinator = Coordinator(session.study, self._settings.trials + 1)
        self._failures = KnownFailures(session.ledger.records(), failures_elsewhere(session.plan, session.earlier))
        self._preparation = Preparation(session, self._baseline, self._failures)
        self._recorder = Recorder(session, self._failures)
        request_knobs = session.plan.space.request_knobs
        self._engine_reuse = EngineReuse(session.study, request_knobs) if self._settings.reuse_engines else None
        self._failures_in_a_row = 0
        self._running: dict[int, Running] = {}  # by trial number
        self._live_params: dict[int, dict[str, Any]] = {}  # by slot

    def run(self) -> None:
        """Spend the rest of the budget, then confirm the best candidates.

        Raises:
            OptimizeError: the baseline cannot run, or too many trials in a row gave no measurement.
            KeyboardInterrupt: after the running trials were ended and queued again.
        """
        with self._coordinator:
            try:
                self._run()
            except BaseException:
                self._abandon()
                raise

    def _run(self) -> None:
        session = self._session
        self._coordinator.requeue_orphans()
        if baseline_estimates(self._study) is None:
            self._run_baseline()
        for line in filter(None, (self._baseline.slowness(), session.progress.outlook())):
            session.progress.say(line)
        for line in queue_best(session.plan, self._study, session.earlier, self._baseline.params()):
            session.progress.say(line)
        session.progress.say(f"the search ends: {self._search()}")
        confirm, seed = session.plan.config.confirm, self._settings.seed
        Confirmation(self._study, confirm, seed, drain=self._confirm).run()

    def _search(self) -> str:
        """Run trials until the budget is spent; returns why the search ends."""
        while True:
            self._drain(lambda _: self._has_next())
            reason = self._budget.spent()
            if reason is not None and not self._coordinator.runs_elsewhere(Role.SEARCH):
                return reason
            self._coordinator.pause()  # the rest of the budget is under way elsewhere, and may fail

    def _has_next(self) -> bool:
        """Whether the budget allows another trial; the last of it is the best point, reduced."""
        running = self._coordinator.running(Role.BASELINE, Role.SEARCH)
        if self._budget.spent(running) is not None:
            return False
        if self._budget.is_last(running) and (best := first_reading(self._study)) is not None:
            queue_reduced(self._study, best.front, self._session.plan.space.canonical)
        return True

    def _confirm(self, has_next: Callable[[int], bool]) -> None:
        self._drain(has_next, every_slot=True)
        while self._coordinator.runs_elsewhere(Role.CONFIRMATION):
            self._coordinator.pause()
            self._drain(has_next, every_slot=True)

    # --- the baseline -------------------------------------------------------------------------------------------

    def _run_baseline(self) -> None:
        """Measure vLLM's defaults first: every gain is relative to them, so without them there is no study."""
        params = self._baseline.params()
        if not is_queued(self._study, Role.BASELINE) and not self._coordinator.runs_elsewhere(Role.BASELINE):
            enqueue(self._study, params, **{ROLE: Role.BASELINE})
        checked_twice = not self._coordinator.shared
        while baseline_estimates(self._study) is None:
            if is_queued(self._study, Role.BASELINE):
                self._drain(lambda _: not self._running and is_queued(self._study, Role.BASELINE))
            elif self._coordinator.runs_elsewhere(Role.BASELINE) or not checked_twice:
                # Another driver may be about to queue it again.
                checked_twice = not self._coordinator.runs_elsewhere(Role.BASELINE)
                self._coordinator.pause()
            else:
                records = [r for r in self._session.ledger.records() if r.role is Role.BASELINE]
                reason = records[-1].reason if records else "another driver ran it"
                raise OptimizeError(f"the baseline (vLLM's defaults) gave no measurement: {reason}")

    # --- trials -------------------------------------------------------------------------------------------------

    def _drain(self, has_next: Callable[[int], bool], every_slot: bool = False) -> None:
        """Begin trials wherever a slot is free, and return once there are no more and the last of them is told.

        Args:
            has_next: Whether there is another trial for a slot.
            every_slot: Ask for every slot, rather than stop at the first for which there is none.
        """
        while True:
            idle = self._executor.idle()
            starts = 0
            for slot in idle:
                if has_next(slot):
                    starts += self._begin(slot)
                elif not every_slot:
                    break
            if idle and not starts and not self._running:
                return
            if self._running or not idle:
                self._receive(self._executor.wait())

    def _begin(self, slot: int) -> bool:
        """Ask for a trial and have it run in a slot; False where another driver or slot runs it already."""
        asked_at = time.monotonic()
        if self._engine_reuse is not None:
            self._engine_reuse.offer(self._live_params.get(slot))
        trial = self._ask()
        if not self._coordinator.claim(trial):
            return False
        running = Running(trial, self._preparation.begin(trial, asked_at), asked_at, ExitStack())
        self._running[trial.number] = running
        self._failures.update(record_of(self._study, other) for other in self._coordinator.trials_elsewhere())
        config = self._preparation.resolve(running.record)
        if isinstance(config, Infeasible):
            self._end(running, running.record, Evaluation(config))
            return True
        tracker, hold = self._session.tracker, running.hold
        job = self._preparation.job(config, running.record, lambda: hold.enter_context(tracker.held()))
        self._executor.submit(slot, job)
        return True

    def _ask(self) -> optuna.Trial:
        with warnings.catch_warnings():  # `Coordinator` writes the heartbeats that Optuna misses here
            warnings.filterwarnings("ignore", "Heartbeat of storage")
            return self._study.ask(dict(self._session.plan.space.distributions))

    def _receive(self, done: Done | None) -> None:
        """Take in a trial that has run."""
        if done is None:
            return
        running, record = self._running[done.record.number], done.record
        self._end(running, record, done.evaluation)
        if isinstance(done.evaluation.outcome, Completed):
            self._preparation.answers.read(record)
        self._live_params.pop(done.slot, None)
        if done.live and record.state is State.COMPLETED and self._preparation.is_same_engine(record):
            self._live_params[done.slot] = dict(running.trial.params)

    def _end(self, running: Running, record: TrialRecord, evaluation: Evaluation) -> None:
        """Tell the result, and queue again what failed for a transient reason.

        Raises:
            OptimizeError: too many trials in a row gave no measurement.
        """
        trial, outcome = running.trial, evaluation.outcome
        with running.hold:
            is_told = self._recorder.tell(trial, record, evaluation)
        del self._running[record.number]
        self._coordinator.release(trial)
        if not trial.user_attrs.get(UNSPENT):
            self._failures_in_a_row = 0 if isinstance(outcome, Completed) else self._failures_in_a_row + 1
        retries = int(trial.user_attrs.get(RETRIES, 0))
        is_retried = is_told and isinstance(outcome, Failed) and retries < self._session.plan.config.executor.retries
        if is_retried:
            requeue(self._study, trial, 1)
        record.seconds["wall"] = time.monotonic() - running.asked_at
        self._session.ledger.write(record)
        if record.role is Role.SEARCH and self._failures_in_a_row >= self._settings.max_failures_in_a_row:
            raise OptimizeError(
                f"{self._failures_in_a_row} trials in a row gave no measurement (study.max_failures_in_a_row): "
                "see the reasons above, narrow the search space, and run the same command to go on"
            )
        if is_retried and isinstance(outcome, Failed) and outcome.disturbed:
            self._await_quiet()  # the trial is next in the queue

    def _abandon(self) -> None:
        """End the running trials, and queue them again.

        One that storage was told already, but that could not be written to disk, is measured: the next session
        completes its record from storage.
        """
        self._executor.interrupt()
        for number, running in self._running.items():
            with running.hold:
                if is_complete(self._study, number):
                    continue
                if self._recorder.tell(running.trial, running.record, Evaluation(Failed("interrupted"))):
                    requeue(self._study, running.trial)
        self._running.clear()
