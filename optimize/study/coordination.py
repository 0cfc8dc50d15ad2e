"""Who runs which trial: no two places, and no two drivers on one study, do the same work.

Storage gives every trial a number, and a queued trial to one driver only (a compare-and-set from WAITING to RUNNING).
On top of that one rule decides whatever two drivers may begin at the same moment: the lower number stays, the other is
given back. Drivers that share a storage write heartbeats; the trials of one that falls silent are queued again by
whoever notices first.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from optimize.outcome import ROLE, Role
from optimize.study.lifecycle import enqueue_again, tell_failed
from optimize.study.storage import GRACE_S, HEARTBEAT_S, beat, end_stale, fail, is_shared
from optimize.study.trial_attributes import CONFIRMATION_ATTRS

DRIVER = "driver"
"""Attribute of a trial: the driver that runs it."""
_POLL_S, _ASKED_S = 0.5, 10.0


class Claims:
    """A driver's claims; a context manager that keeps them fresh where storage is shared.

    Args:
        study: The study.
        budget: Trials of search and baseline that there may be in all.
    """

    def __init__(self, study: optuna.Study, budget: int) -> None:
        self._study, self._budget = study, budget
        self.shared = is_shared(study)
        self._me = f"{_here()}/{os.getpid()}/{uuid.uuid4().hex[:6]}"
        self._mine: dict[int, optuna.Trial] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self.shared:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self.shared:
            self._thread.join()

    # --- claiming -----------------------------------------------------------------------------------------------

    def claim(self, trial: optuna.Trial) -> bool:
        """Whether a trial just asked for is this driver's to run; given back if not, and no budget spent on it."""
        role = trial.user_attrs.get(ROLE, Role.SEARCH)
        if self.shared:
            beat(self._study, trial)
            trial.set_user_attr(DRIVER, self._me)
            trial.set_user_attr(ROLE, role)
        if self._is_taken(trial, role) if self.shared else self._is_mine(trial, role):
            tell_failed(self._study, trial)
            return False
        with self._lock:
            self._mine[trial.number] = trial
        return True

    def release(self, trial: optuna.Trial) -> None:
        """A claimed trial has been told."""
        with self._lock:
            self._mine.pop(trial.number, None)

    def _is_mine(self, trial: optuna.Trial, role: str) -> bool:
        """Whether a driver that is alone runs the same point already: it need not ask storage for that."""
        running = [t.params for t in self._mine.values() if t.user_attrs.get(ROLE, Role.SEARCH) != Role.CONFIRMATION]
        return role == Role.SEARCH and trial.params in running

    def _is_taken(self, trial: optuna.Trial, role: str) -> bool:
        before = [t for t in self._trials() if t.number < trial.number and t.state is not TrialState.FAIL]
        before = [t for t in before if t.state is not TrialState.WAITING]
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
        unseen = [t for t in searched if t.datetime_complete is None or t.datetime_complete > _asked_at(trial)]
        return any(self._params_of(t, set(trial.params)) == trial.params for t in unseen)

    def _params_of(self, running: FrozenTrial, names: set[str]) -> Mapping[str, Any]:
        """A running trial's settings, once the driver that asks for it has them all."""
        deadline = time.monotonic() + _ASKED_S
        while not names <= set(running.params) and time.monotonic() < deadline and self.shared:
            time.sleep(_POLL_S / 5)
            running = self._trials()[running.number]
        return running.params

    # --- others -------------------------------------------------------------------------------------------------

    def running(self, *roles: str) -> int:
        """How many trials of these roles run now, anywhere."""
        theirs = self._running() if self.shared else list(self._mine.values())
        return sum(t.user_attrs.get(ROLE, Role.SEARCH) in roles for t in theirs)

    def elsewhere(self, *roles: str) -> bool:
        """Whether another driver runs a trial of these roles."""
        if not self.shared:
            return False
        theirs = [t for t in self._running() if t.number not in self._mine]
        return any(t.user_attrs.get(ROLE, Role.SEARCH) in roles for t in theirs)

    def others(self) -> list[FrozenTrial]:
        """Ended trials of other drivers."""
        if not self.shared:
            return []
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [t for t in ended if t.user_attrs.get(DRIVER) != self._me]

    def pause(self) -> None:
        """Wait a moment for what others do; the trials of a driver that fell silent are queued again."""
        time.sleep(_POLL_S)
        self.reap()

    def reap(self) -> None:
        """End the trials of drivers that fell silent; each is queued again by whoever ends it."""
        if not self.shared:
            return
        end_stale(self._study)
        for trial in self._running():
            if _is_orphan(trial) and fail(self._study, trial):
                enqueue_again(self._study, trial)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _keep_fresh(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with self._lock:
                mine = list(self._mine.values())
            for trial in mine:
                beat(self._study, trial)


def agreed(study: optuna.Study, name: str, value: str) -> str:
    """What the drivers of a study agree on under a name: what the first of them wrote."""
    if name not in study.user_attrs:
        study.set_user_attr(name, value)
    return str(study.user_attrs[name])


def _is_orphan(trial: FrozenTrial) -> bool:
    """Whether a running trial's driver is known to be dead, or died between asking and its first heartbeat."""
    driver, asked = trial.user_attrs.get(DRIVER), trial.datetime_start
    if driver is None:
        return asked is not None and asked < datetime.now() - timedelta(seconds=GRACE_S)
    where, pid, _ = driver.split("/")
    return where == _here() and not Path(f"/proc/{pid}").exists()


@cache
def _here() -> str:
    """This machine, since it was started, as its processes are numbered here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return f"{os.uname().nodename}:{boot}:{os.stat('/proc/self/ns/pid').st_ino}"


def _asked_at(trial: optuna.Trial) -> datetime:
    return trial.datetime_start or datetime.now()


def _cell(attributes: Mapping[str, Any]) -> list[Any]:
    return [attributes.get(name) for name in CONFIRMATION_ATTRS]


def _confirms(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(ROLE) == Role.CONFIRMATION
