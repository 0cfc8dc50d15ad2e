"""Studies on a database server and an MLflow server: resumed, shared by two drivers, and refused in one line."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from optimize.engine.process import free_port
from optimize.ledger import Ledger
from optimize.study.coordination import DRIVER
from tests.conftest import Run, engine_processes
from tests.made import QUICK, make_study
from tests.optimize.driver.test_session import read_until, start
from tests.optimize.servers import PASSWORD, mlflow_server, postgres, postgres_bin, recording_proxy
from tests.storages import study_at

PROGRAMS = postgres_bin()
needs_postgres = pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed (requirements/debian.txt)")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    assert PROGRAMS is not None
    with postgres(PROGRAMS) as url:
        yield url


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tracking")
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    with mlflow_server(folder) as uri:
        yield uri


@pytest.fixture
def served(database: str, tracking: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The servers' addresses, in the environment as a user would give them."""
    monkeypatch.setenv("OPTUNA_STORAGE", database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    return database, tracking


def stored(url: str, name: str) -> list[Any]:
    return study_at(url, name).get_trials()


def mlflow_runs(uri: str, study: str) -> tuple[list[Any], list[Any]]:
    """(parents, children) of a study."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("optimize")
    assert experiment is not None
    result = client.search_runs([experiment.experiment_id], f"tags.study = '{study}'", max_results=1000)
    children = [r for r in result if "mlflow.parentRunId" in r.data.tags]
    return [r for r in result if r not in children], children


def of_role(trials: list[Any], role: str) -> list[Any]:
    return [t for t in trials if t.state is TrialState.COMPLETE and t.user_attrs["role"] == role]


def without_secret(folder: Path) -> bool:
    return all(PASSWORD.encode() not in p.read_bytes() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A study on instant workers: what is tested is where it is stored."""
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    return ["+study=chat", *QUICK, "tracking=server", "confirm.candidates=0", *folders]


@needs_postgres
def test_the_same_study_runs_and_resumes_on_servers(
    words: list[str], served: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_study([*words, "study.name=served", "study.trials=1"])
    make_study([*words, "study.name=served", "study.trials=3"])
    shown = capfd.readouterr()
    assert "recommended for Real-time chat" in shown.out
    trials = stored(served[0], "served")
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
    parents, children = mlflow_runs(served[1], "served")
    assert len(parents) == 1 and sorted(int(r.data.tags["trial"]) for r in children) == [0, 1, 2, 3]
    assert {r.info.status for r in [*parents, *children]} == {"FINISHED"}
    assert PASSWORD not in shown.out + shown.err and without_secret(tmp_path / "out")
    assert not (tmp_path / "out/optuna.db").exists()


@needs_postgres
@pytest.mark.slow
def test_a_second_driver_on_another_machine_goes_on_where_the_first_stopped(
    words: list[str], served: tuple[str, str], tmp_path: Path
) -> None:
    """One after the other; at the same time they run among the slow tests."""
    grid = [*words, "study.name=handed-on", "sampler=grid"]
    make_study([*grid, "study.trials=2"])
    make_study([*grid, "study.trials=4", f"output_dir={tmp_path}/other"])
    trials = stored(served[0], "handed-on")
    assert len(of_role(trials, "baseline")) == 1
    points = [t.params for t in of_role(trials, "search")]
    assert len(points) == 4 and all(a != b for a, b in itertools.combinations(points, 2))
    ledgers = [Ledger(tmp_path / out / "studies/handed-on") for out in ("out", "other")]
    assert [[r.number for r in ledger.records()] for ledger in ledgers] == [[0, 1, 2], [3, 4]]
    parents, children = mlflow_runs(served[1], "handed-on")
    assert len(parents) == 1 and len(children) == 5


@pytest.mark.slow
@needs_postgres
def test_two_drivers_share_the_work_and_repeat_none_of_it(
    simulated: list[str], served: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy, which none of their requests is for: all servers are on this machine."""
    options = [
        *simulated, "tracking=server", "study.name=shared", "study.trials=4", "confirm.candidates=1",
        "confirm.rounds=2", "sampler=grid",  # both have the same list to go through
    ]  # fmt: skip
    with recording_proxy() as proxy:
        with monkeypatch.context() as drivers_own:
            for name, value in (("http_proxy", proxy.url), ("no_proxy", ""), ("NO_PROXY", "")):
                drivers_own.setenv(name, value)
            drivers = [start([*options, f"output_dir={tmp_path}/out{i}"]) for i in range(2)]
        ended = [driver.communicate(timeout=200) for driver in drivers]
        assert proxy.requests == []
    assert [driver.returncode for driver in drivers] == [0, 0], ended
    trials = stored(served[0], "shared")
    assert not [t for t in trials if not t.state.is_finished()]
    assert len(of_role(trials, "baseline")) == 1 and len(of_role(trials, "search")) == 4
    points = [t.params for t in of_role(trials, "search")]
    assert all(a != b for a, b in itertools.combinations(points, 2))
    cells = [(t.user_attrs["round"], t.user_attrs["confirms"]) for t in of_role(trials, "confirmation")]
    assert len(cells) == len(set(cells)) == 4
    ended_trials = [t for t in trials if t.state is TrialState.COMPLETE]
    assert len({t.user_attrs[DRIVER] for t in ended_trials}) == 2, "one driver did everything"
    records = [list(Ledger(tmp_path / f"out{i}/studies/shared").records()) for i in range(2)]
    numbers = sorted(r.number for r in itertools.chain(*records) if r.state == "completed")
    assert numbers == [t.number for t in ended_trials], "every trial is in one driver's ledger"
    parents, children = mlflow_runs(served[1], "shared")
    assert sorted(int(r.data.tags["trial"]) for r in children) == numbers
    assert len(parents) <= 2  # one, unless both began within the same moment
    assert all("recommended for" in out for out, _ in ended)


@pytest.mark.slow
@needs_postgres
def test_a_driver_finishes_the_trial_of_a_killed_one(
    optimize: Run, simulated: list[str], served: tuple[str, str], tmp_path: Path
) -> None:
    options = [*simulated, "tracking=server", "study.name=killed", "study.trials=3"]
    first = start([*options, f"output_dir={tmp_path}/other"])
    read_until(first, r"^trial 1 ")
    time.sleep(0.5)
    first.kill()
    first.communicate()
    done = optimize(options)
    assert done.returncode == 0, done.stderr
    trials = stored(served[0], "killed")
    assert [t.state for t in trials].count(TrialState.COMPLETE) == 4
    (lost,) = [t for t in trials if t.state is TrialState.FAIL]
    assert [t.params for t in trials if t.state is TrialState.COMPLETE].count(lost.params) == 1
    assert engine_processes(str(tmp_path)) == []


def refused(done: Any, out: Path) -> str:
    """The one line of a refusal that wrote nothing."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert PASSWORD not in done.stderr and "wrong-password" not in done.stderr
    assert {p.name for p in (out / "studies/smoke").iterdir()} <= {"lock"}
    return str(done.stderr)


@needs_postgres
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((PASSWORD, "wrong-password"), "refuses the credentials"),
        (("/postgres", "/nowhere"), "no such database"),
        (("optimize:", "nobody:"), "refuses the credentials"),
    ],
)
def test_a_database_that_refuses(
    optimize: Run, simulated: list[str], database: str, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    url = database.replace(*change) if change[0] != "/postgres" else database.removesuffix(change[0]) + change[1]
    assert message in refused(optimize([*simulated, f"tracking.storage='{url}'"]), tmp_path / "out")


def test_a_database_server_that_does_not_run(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    url = f"postgresql://optimize:{PASSWORD}@127.0.0.1:{free_port()}/postgres"
    message = refused(optimize([*simulated, f"tracking.storage='{url}'"]), tmp_path / "out")
    assert "optimize:***@127.0.0.1" in message and re.search("cannot be opened .*start the server", message)


def test_an_unknown_kind_of_database(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    message = refused(optimize([*simulated, "tracking.storage='postgresql+nodriver://h/d'"]), tmp_path / "out")
    assert "postgresql+nodriver" in message


@pytest.mark.parametrize("code", [401, 403])
def test_a_tracking_server_that_refuses(optimize: Run, simulated: list[str], tmp_path: Path, code: int) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://me:{PASSWORD}@127.0.0.1:{server.server_port}"
        done = optimize([*simulated, f"tracking.uri='{address}'", "tracking.artifacts=null"])
    finally:
        server.shutdown()
        server.server_close()
    assert f"refuses the credentials (HTTP {code})" in refused(done, tmp_path / "out")
