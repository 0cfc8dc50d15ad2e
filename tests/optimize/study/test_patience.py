"""A storage waits for its database, tells each result once, and gives up in the end."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from optimize.search.optuna_compat import end_trial
from optimize.study import patience
from optimize.study.storage import fault_of, open_storage
from tests.storages import connections_to, storage_at

Outage = Callable[[int], None]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    return []


@pytest.fixture
def storage(tmp_path: Path, messages: list[str]) -> BaseStorage:
    return open_storage(f"sqlite:///{tmp_path}/optuna.db", tell=messages.append)


@pytest.fixture
def outage(storage: BaseStorage) -> Iterator[Outage]:
    """The next statements fail as those of a server do that has been stopped."""
    left = [0]

    def refuse(*_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise sqlalchemy.exc.OperationalError("select", {}, ConnectionError("the server was shut down"))

    engine = storage._backend.engine  # type: ignore[attr-defined]
    sqlalchemy.event.listen(engine, "before_cursor_execute", refuse)
    yield lambda times: left.__setitem__(0, times)
    left[0] = 0


def test_a_study_goes_on_through_outages_and_tells_every_trial_once(
    storage: BaseStorage, outage: Outage, messages: list[str]
) -> None:
    study = optuna.create_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(4):
        outage(3)
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        outage(2)
        trial.set_user_attr("role", "search")
        outage(5)
        study.tell(trial, float(number))
    assert [(t.state, t.value) for t in study.trials] == [(TrialState.COMPLETE, float(n)) for n in range(4)]
    assert len(messages) == 12, "each wait is told once"
    assert all("does not answer (the server was shut down)" in line and "tried again" in line for line in messages)


def test_a_result_is_told_once_if_its_answer_was_lost(storage: BaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(study_name="s", storage=storage)
    trial, calls = study.ask(), []
    stored = RDBStorage.set_trial_state_values

    def lose_the_answer(self: RDBStorage, *arguments: Any, **named: Any) -> bool:
        calls.append(arguments)
        result = stored(self, *arguments, **named)
        if len(calls) == 1:
            raise StorageInternalError from sqlalchemy.exc.OperationalError("commit", {}, ConnectionError("gone"))
        return result

    monkeypatch.setattr(RDBStorage, "set_trial_state_values", lose_the_answer)
    study.tell(trial, 7.0)
    assert len(calls) == 2 and [(t.state, t.value) for t in study.trials] == [(TrialState.COMPLETE, 7.0)]
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        end_trial(study, study.trials[0], TrialState.COMPLETE)


def test_it_gives_up_in_the_end_and_then_holds_nobody_up(
    storage: BaseStorage, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 50))
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None))
    study = optuna.create_study(study_name="s", storage=storage)
    outage(10**6)
    with pytest.raises(StorageInternalError):
        study.set_user_attr("a", 1)
    before = next(clock)
    with pytest.raises(StorageInternalError):
        study.set_user_attr("a", 1)
    assert next(clock) - before <= 150, "the second call does not wait"
    outage(0)
    study.set_user_attr("a", 1)
    assert study.user_attrs == {"a": 1}


def test_a_full_disk_is_said_at_once() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    error = StorageInternalError("commit")
    error.__cause__ = sqlalchemy.exc.OperationalError("insert", {}, full)
    assert not patience.is_passing(error)
    assert "free some space" in fault_of("sqlite:////data/optuna.db", error)


def test_a_storage_that_nobody_uses_any_more_closes_its_connections(tmp_path: Path) -> None:
    storage, closed = patience.PatientStorage(f"sqlite:///{tmp_path}/optuna.db"), list[object]()
    engine = storage.engine  # kept: its connections would be lost with it otherwise, not closed
    sqlalchemy.event.listen(engine, "close", lambda connection, _: closed.append(connection))
    storage.get_all_studies()
    assert closed == []
    del storage
    gc.collect()
    assert closed


def test_a_storage_that_is_refused_once_it_is_connected_closes_its_connections(tmp_path: Path) -> None:
    database = tmp_path / "optuna.db"
    storage_at(f"sqlite:///{database}")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = 'v99'")
    with connections_to(database) as connections:
        with pytest.raises(RuntimeError, match="no longer compatible"):
            patience.PatientStorage(f"sqlite:///{database}")
        gc.collect()
        assert connections == {}
