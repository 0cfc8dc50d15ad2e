"""Two drivers on one study: the lower number stays, and the silent are replaced."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optimize.outcome import ROLE, Role
from optimize.study.coordination import DRIVER, Coordinator, _is_orphan
from optimize.study.queue import RETRIES, requeue
from optimize.study.trial_attributes import CONFIRMING, CONFIRMS, ROUND

SPACE = {"x": IntDistribution(0, 99)}


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[tuple[optuna.Study, optuna.Study]]:
    """One study as two drivers have it open, in a storage with heartbeats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storages = [
            RDBStorage(f"sqlite:///{tmp_path}/optuna.db", heartbeat_interval=60, heartbeat_stale_trial_callback=requeue)
            for _ in range(2)
        ]
        first = optuna.create_study(study_name="s", storage=storages[0])
        yield first, optuna.load_study(study_name="s", storage=storages[1])


def ask(study: optuna.Study, x: int | None = None, **attributes: Any) -> optuna.Trial:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if x is not None:
            study.enqueue_trial({"x": x}, user_attrs={RETRIES: 0, **attributes})
        return study.ask(dict(SPACE))


def states(study: optuna.Study) -> list[TrialState]:
    return [t.state for t in study.get_trials()]


def test_different_points_are_both_run(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    ours, theirs = (Coordinator(study, 9) for study in drivers)
    assert ours.claim(ask(drivers[0], 1)) and theirs.claim(ask(drivers[1], 2))
    assert ours.running(Role.SEARCH) == 2
    assert ours.runs_elsewhere(Role.SEARCH) and not ours.runs_elsewhere(Role.BASELINE)


def test_of_equal_points_the_lower_number_stays(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    ours, theirs = (Coordinator(study, 9) for study in drivers)
    first, second = ask(drivers[0], 1), ask(drivers[1], 1)
    assert not theirs.claim(second), "claimed first, and yet the higher number"
    assert ours.claim(first)
    assert states(drivers[0]) == [TrialState.RUNNING, TrialState.FAIL]


def test_a_point_that_ended_elsewhere_while_it_was_asked_for_is_not_run_again(
    drivers: tuple[optuna.Study, optuna.Study],
) -> None:
    ours, theirs = (Coordinator(study, 9) for study in drivers)
    first = ask(drivers[0], 1)
    assert ours.claim(first)
    second = ask(drivers[1], 1)
    drivers[0].tell(first, 1.0)
    assert not theirs.claim(second)
    assert theirs.claim(ask(drivers[1], 1)), "asked for by somebody who knew of the first"


def test_the_budget_is_kept_to_the_trial(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    ours, theirs = (Coordinator(study, 2) for study in drivers)
    drivers[0].tell(ask(drivers[0], 1), 1.0)
    trials = [ask(drivers[0], 2), ask(drivers[1], 3)]
    assert [ours.claim(trials[0]), theirs.claim(trials[1])] == [True, False]


def test_a_confirmation_uses_up_no_budget_and_each_cell_runs_once(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    ours, theirs = (Coordinator(study, 1) for study in drivers)
    drivers[0].tell(ask(drivers[0], 1), 1.0)
    cell = {ROLE: Role.CONFIRMATION, CONFIRMING: 0, CONFIRMS: 0, ROUND: 0}
    assert ours.claim(ask(drivers[0], 1, **cell))
    assert not theirs.claim(ask(drivers[1], 1, **cell))
    assert theirs.claim(ask(drivers[1], 1, **{**cell, ROUND: 1}))


def test_there_is_one_baseline_unless_it_could_not_be_measured(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    ours, theirs = (Coordinator(study, 9) for study in drivers)
    first, second = ask(drivers[0], 1, **{ROLE: Role.BASELINE}), ask(drivers[1], 1, **{ROLE: Role.BASELINE})
    assert ours.claim(first) and not theirs.claim(second)
    first.set_user_attr("imputed", True)
    drivers[0].tell(first, 0.0)
    assert theirs.claim(ask(drivers[1], 1, **{ROLE: Role.BASELINE}))


def test_the_trials_of_a_dead_driver_are_queued_again_once(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    lost = ask(drivers[1], 7)
    Coordinator(drivers[1], 9).claim(lost)
    where = drivers[0].get_trials()[0].user_attrs[DRIVER].split("/")[0]
    lost.set_user_attr(DRIVER, f"{where}/{2**22 + 1}/dead")  # no process has such a number
    ours = Coordinator(drivers[0], 9)
    ours.requeue_orphans()
    ours.requeue_orphans()
    assert states(drivers[0]) == [TrialState.FAIL, TrialState.WAITING]
    again = ask(drivers[0])
    assert again.params == {"x": 7} and ours.claim(again)


def test_the_trials_of_a_living_driver_are_left_alone(drivers: tuple[optuna.Study, optuna.Study]) -> None:
    Coordinator(drivers[1], 9).claim(ask(drivers[1], 7))
    Coordinator(drivers[0], 9).requeue_orphans()
    assert states(drivers[0]) == [TrialState.RUNNING]


def test_a_driver_that_is_alone_writes_nothing_and_runs_no_point_twice() -> None:
    study = optuna.create_study()
    coordinator = Coordinator(study, 9)
    assert coordinator.claim(ask(study, 1)) and not coordinator.claim(ask(study, 1))
    assert not coordinator.runs_elsewhere(Role.SEARCH) and coordinator.trials_elsewhere() == []
    assert all(DRIVER not in t.user_attrs for t in study.get_trials())


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets this process's time zone, as TZ names it, until the end of the test."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def test_a_trial_asked_for_in_another_time_zone_is_no_orphan(
    drivers: tuple[optuna.Study, optuna.Study], zone: Callable[[str], None]
) -> None:
    for name in ("WEST9", "EAST-9"):
        zone(name)
        ask(drivers[1])
    zone("UTC")
    Coordinator(drivers[0], 9).requeue_orphans()
    assert states(drivers[0]) == [TrialState.RUNNING] * 2


NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"


@pytest.mark.parametrize(
    ("asked", "fold", "now", "orphan"),
    [
        (datetime(2026, 3, 8, 1, 59, 50), 0, datetime(2026, 3, 8, 7, 0, 10, tzinfo=UTC), False),  # 20 s, clocks forward
        (datetime(2026, 3, 8, 1, 59, 50), 0, datetime(2026, 3, 8, 7, 1, 10, tzinfo=UTC), True),
        (datetime(2026, 11, 1, 1, 59, 50), 0, datetime(2026, 11, 1, 6, 1, 10, tzinfo=UTC), True),  # 80 s, clocks back
        (datetime(2026, 11, 1, 1, 0, 0), 1, datetime(2026, 11, 1, 6, 0, 20, tzinfo=UTC), False),
    ],
)
def test_silence_is_counted_across_the_night_in_which_clocks_are_set(
    zone: Callable[[str], None], asked: datetime, fold: int, now: datetime, orphan: bool
) -> None:
    zone(NEW_YORK)
    trial = optuna.trial.create_trial(state=TrialState.RUNNING)
    trial.datetime_start = asked.replace(fold=fold)
    assert _is_orphan(trial, now) is orphan


def test_a_heartbeat_that_fails_is_not_the_last(
    drivers: tuple[optuna.Study, optuna.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []

    def fail_first(_: optuna.Study, trial: optuna.Trial) -> None:
        beats.append(trial.number)
        if len(beats) == 1:
            raise RuntimeError("the connection's socket is gone")

    monkeypatch.setattr("optimize.study.coordination.HEARTBEAT_S", 0.01)
    coordinator = Coordinator(drivers[0], 9)
    assert coordinator.claim(ask(drivers[0], 1))
    monkeypatch.setattr("optimize.study.coordination.beat", fail_first)
    with coordinator:
        deadline = time.monotonic() + 30
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3
