"""The database and the tracking server of a study are killed while it runs, and started again."""

from __future__ import annotations

import gc
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from optuna.trial import TrialState

from optimize.executor.base import Job
from optimize.study.patience import is_passing
from tests.faults.study import Study
from tests.faults.tracking_server import TrackingServer
from tests.optimize.servers import Postgres, postgres_bin

PROGRAMS = postgres_bin()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed (requirements/debian.txt)"),
]
KILL_AT, RETURN_AT = 2, 4
"""The trial during which they are killed, and the one before which the tracking server is back."""


@pytest.fixture
def database() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    assert PROGRAMS is not None
    server = Postgres(PROGRAMS, folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def tracking(tmp_path: Path, empty_mlflow_db: Path) -> Iterator[TrackingServer]:
    folder = tmp_path / "tracking"
    folder.mkdir()
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    server = TrackingServer(folder)
    server.start()
    yield server
    server.close()


def test_servers_that_die_and_come_back_cost_no_trial(
    database: Postgres, tracking: TrackingServer, tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", database.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    study = Study(tmp_path / "study", empty_mlflow_db, "tracking=server")
    study.storage, study.tracking = database.url, tracking.uri
    victims, lock = list[Postgres](), threading.Lock()

    def at_trial(job: Job) -> None:
        if job.record.number == KILL_AT:
            for server in (database, tracking):
                server.stop(signal.SIGKILL)
            victims.append(database)
        if job.record.number == RETURN_AT:
            tracking.start()

    def on_fault(error: Exception) -> bool:
        with lock:
            if victims:  # not before it is missed: it is back within a second
                victims.pop().start()
        return is_passing(error)

    with (
        patch("tests.faults.study.before_trial", at_trial),
        patch("optimize.study.patience.is_passing", on_fault),
        patch("optimize.study.patience.PAUSE_S", 0.1),
    ):
        session = study.run()
    assert session.complaint() == "" and session.code == 0
    assert not victims and "it is tried again for" in session.out, "the database was not missed"
    assert "MLflow did not take the results" in session.out, "the tracking server was not missed"
    assert {t.state for t in study.trials()} == {TrialState.COMPLETE}
    sync = study.run("optimize.sync")
    assert sync.complaint() == "" and sync.code == 0
    assert study.losses() + study.shortfalls() == []
    gc.collect()  # a connection that was left open is warned of here, and not in another test
