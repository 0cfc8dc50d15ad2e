"""A clock that is set while a study runs, a day forward or back."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from optuna.trial import TrialState

from optimize.executor.base import Job
from tests.faults.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
DAY = timedelta(days=1)
SET_AT = (1, 4)
"""Trials before which the clock is set, one of the search and one of the confirmation."""


class _Type(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class Clock:
    """Every clock of this process that can be set; those that count from an arbitrary moment go on."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    @contextmanager
    def installed(self) -> Iterator[None]:
        clock, now_s = self, time.time

        class ShiftedDatetime(datetime, metaclass=_Type):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                return datetime.now(tz) + clock.ahead

        with ExitStack() as stack:
            stack.enter_context(patch("time.time", lambda: now_s() + clock.ahead.total_seconds()))
            for name, module in sys.modules.copy().items():  # in one step: threads may import meanwhile
                if name.startswith(("optuna", "optimize")) and getattr(module, "datetime", None) is datetime:
                    stack.enter_context(patch.object(module, "datetime", ShiftedDatetime))
            yield


@pytest.mark.parametrize("step", [DAY, -DAY], ids=["forward", "back"])
def test_a_clock_that_is_set_loses_nothing(tmp_path: Path, empty_mlflow_db: Path, step: timedelta) -> None:
    study, clock = Study(tmp_path, empty_mlflow_db), Clock()

    def set_clock(job: Job) -> None:
        if job.record.number in SET_AT:
            clock.ahead += step

    with clock.installed(), patch("tests.faults.study.before_trial", set_clock):
        sessions = [study.run(), study.run()]
    sessions.append(study.run())  # a day earlier, or later, than the trials of the sessions before
    assert [session.code for session in sessions] == [0, 0, 0], sessions[0].err
    assert [session.complaint() for session in sessions] == ["", "", ""]
    assert study.losses() + study.shortfalls() == []
    trials = study.trials()
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    starts = [t.datetime_start or datetime.min for t in trials]
    assert abs(starts[SET_AT[0] + 1] - starts[0]) > DAY / 2, "the clock was not set"
    seconds = [r.seconds[name] for r in study.ledger.records() for name in ("total", "wall")]
    assert all(0 <= s < DAY.total_seconds() / 2 for s in seconds), seconds  # however slow the machine is
