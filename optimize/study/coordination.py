"""Coordination of the drivers of one study: no two of them, and no two slots of one, do the same work.

Storage gives every trial a number, and a queued trial to one driver only (a compare-and-set from WAITING to RUNNING).
On top of that one rule decides whatever two drivers may begin at the same moment: the lower number stays, the other is
given back. Drivers that share a storage write heartbeats; the trials of one that falls silent are queued again by
whoever notices first.

Optuna stores times in UTC and hands them out as local times without a zone. Local time is set forward and back once a
year, so times are compared in UTC.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from optimize.outcome import ROLE, Role
from optimize.study.queue import requeue, tell_failed
from optimize.study.status import here
from optimize.study.storage import GRACE_S, HEARTBEAT_S, beat, end_stale, fail, is_shared
from optimize.study.trial_attributes import CONFIRMATION_ATTRS
from optimize.ticker import Ticker

DRIVER = "driver"
"""Attribute of a trial: the driver that runs it."""
_POLL_S, _ASKED_S = 0.5, 10.0


class Coordinator:
    """Claims trials for one driver; a context manager that writes heartbeats where storage is shared.

    Args:
        study: The study.
        budget: Most trials of the search and the baseline together.

    Attributes:
        shared: Whether other drivers may work on the study.
    """

    def __init__(self, study: optuna.Study, budget: int) -> None:
        self._study, self._budget = study, budget
        self.shared = is_shared(study)
        self._driver = f"{here()}/{os.getpid()}/{uuid.uuid4().hex[:6]}"
        self._claimed: dict[int, optuna.Trial] = {}
        self._lock = threading.Lock()
        self._heart = Ticker(self._write_heartbeats, HEARTBEAT_S, "heartbeat")

    def __enter__(self) -> Self:
        if self.shared:
            self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.stop()

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim(self, trial: optuna.Trial) -> bool:
        """Claim a trial that was just asked for; False where it is another's to run: then it is ended, at no cost."""
        role = trial.user_attrs.get(ROLE, Role.SEARCH)
        if self.shared:
            beat(self._study, trial)
            trial.set_user_attr(DRIVER, self._driver)
            trial.set_user_attr(ROLE, role)
        is_taken = self._is_taken if self.shared else self._is_duplicate
        if is_taken(trial, role):
            tell_failed(self._study, trial)
            return False
        with self._lock:
            self._claimed[trial.number] = trial
        return True

    def release(self, trial: optuna.Trial) -> None:
        """Give up the claim on a trial that was told."""
        with self._lock:
            self._claimed.pop(trial.number, None)

    def _is_duplicate(self, trial: optuna.Trial, role: str) -> bool:
        """Whether this driver, which is alone, runs the same point already; asks no storage."""
        running = [t.params for t in self._claimed.values() if t.user_attrs.get(ROLE, Role.SEARCH) != Role.CONFIRMATION]
        return role == Role.SEARCH and trial.params in running

    def _is_taken(self, trial: optuna.Trial, role: str) -> bool:
        """Whether a trial of a lower number does the same work, or uses up the budget."""
        earlier = [t for t in self._trials() if t.number < trial.number]
        before = [t for t in earlier if t.state not in (TrialState.FAIL, TrialState.WAITING)]
        if role == Role.BASELINE:
            return any(t.user_attrs.get(ROLE) == Role.BASELINE and not t.user_attrs.get("imputed") for t in before)
        if role == Role.CONFIRMATION:
            cell = _cell(trial.user_attrs)
            return any(t.user_attrs.get(ROLE) == Role.CONFIRMATION and _cell(t.user_attrs) == cell for t in before)
        counting = [t for t in self._trials() if t.state is TrialState.COMPLETE and not _confirms(t)]
        searched = [t for t in before if not _confirms(t)]
        running = [t for t in searched if t.state is TrialState.RUNNING]
        if len(counting) + len(running) >= self._budget:
            return True
        # One that has ended since this one was asked for was as unknown to the sampler as one that still runs.
        asked_at = (trial.datetime_start or datetime.now()).astimezone(UTC)
        unseen = [t for t in searched if t.datetime_complete is None or t.datetime_complete.astimezone(UTC) > asked_at]
        return any(self._params_of(t, set(trial.params)) == trial.params for t in unseen)

    def _params_of(self, running: FrozenTrial, names: set[str]) -> Mapping[str, Any]:
        """The settings of a running trial; waits while the driver that asks for it is still drawing them."""
        deadline = time.monotonic() + _ASKED_S
        while not names <= set(running.params) and time.monotonic() < deadline and self.shared:
            time.sleep(_POLL_S / 5)
            running = self._trials()[running.number]
        return running.params

    # --- other drivers ------------------------------------------------------------------------------------------------

    def running(self, *roles: str) -> int:
        """Number of running trials of these roles, of all drivers."""
        trials = self._running() if self.shared else list(self._claimed.values())
        return sum(t.user_attrs.get(ROLE, Role.SEARCH) in roles for t in trials)

    def runs_elsewhere(self, *roles: str) -> bool:
        """Whether another driver runs a trial of these roles."""
        if not self.shared:
            return False
        trials = [t for t in self._running() if t.number not in self._claimed]
        return any(t.user_attrs.get(ROLE, Role.SEARCH) in roles for t in trials)

    def trials_elsewhere(self) -> list[FrozenTrial]:
        """Completed trials of other drivers."""
        if not self.shared:
            return []
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [t for t in ended if t.user_attrs.get(DRIVER) != self._driver]

    def pause(self) -> None:
        """Wait a moment for other drivers, and queue the trials of those that fell silent."""
        time.sleep(_POLL_S)
        self.requeue_orphans()

    def requeue_orphans(self) -> None:
        """End the trials of drivers that fell silent; whoever ends a trial queues it again."""
        if not self.shared:
            return
        end_stale(self._study)
        for trial in self._running():
            if _is_orphan(trial, datetime.now(UTC)) and fail(self._study, trial):
                requeue(self._study, trial)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _write_heartbeats(self) -> None:
        with self._lock:
            claimed = list(self._claimed.values())
        for trial in claimed:
            beat(self._study, trial)


def agreed(study: optuna.Study, name: str, value: str) -> str:
    """The value that all drivers of a study use under a name: the one that the first of them stored."""
    if name not in study.user_attrs:
        study.set_user_attr(name, value)
    return str(study.user_attrs[name])


def _is_orphan(trial: FrozenTrial, now: datetime) -> bool:
    """Whether a running trial's driver is known to be dead, or died between asking and its first heartbeat.

    Args:
        trial: The trial.
        now: The present time, with its time zone.
    """
    driver, start = trial.user_attrs.get(DRIVER), trial.datetime_start
    if driver is None:
        return start is not None and now - start.astimezone(UTC) > timedelta(seconds=GRACE_S)
    where, pid, _ = driver.split("/")
    return where == here() and not Path(f"/proc/{pid}").exists()


def _cell(attributes: Mapping[str, Any]) -> list[Any]:
    return [attributes.get(name) for name in CONFIRMATION_ATTRS]


def _confirms(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(ROLE) == Role.CONFIRMATION
