"""Several engines at a time on this machine: whole studies on stand-ins, workers and drivers killed on the way."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from optimize.config.schema import StudyConfig
from optimize.engine.base import EngineConfig
from optimize.errors import ConfigError, FailureKind
from optimize.executor.placement import Place
from optimize.executor.processes import Processes
from optimize.executor.worker import Effective, Lost, Ready, Refusals, Worker, WorkerSpec
from optimize.ledger import Ledger
from optimize.outcome import Infeasible
from optimize.testing.instant_workers import Instant
from tests.conftest import Run, gone
from tests.made import make_study
from tests.optimize.driver.test_session import read_until, runs, start, stored

HERE = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(HERE) < 2, reason="two places need two processors")
SETS = f"executor.cpu_sets=['{HERE[0]}','{HERE[1]}']"


def workers_of(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children() if "spawn_main" in " ".join(p.cmdline())]


def failing(spec: WorkerSpec) -> Worker:
    raise RuntimeError(f"cannot log in with {next(iter(spec.secrets))}")


def test_a_worker_hides_what_the_driver_hides(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = WorkerSpec(StudyConfig(), [Place()], 0, tmp_path, tmp_path, {"Zq1-s3cret-of-mine": "$MY_SECRET"})
    workers = Processes([spec], make=failing)
    workers.start(0)
    ((_, message),) = workers.wait(60)
    shown = capfd.readouterr().err
    assert isinstance(message, Lost) and "cannot log in with $MY_SECRET" in shown and "Zq1" not in shown


@pytest.mark.slow
def test_a_study_on_two_places_measures_side_by_side(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    options = [*simulated, SETS, "study.trials=3", "confirm.candidates=1", "confirm.rounds=2"]
    done = optimize(options)
    assert done.returncode == 0, done.stderr
    assert "2 engines at a time on this machine" in done.stdout
    trials = stored(tmp_path / "out").get_trials()
    assert {t.state for t in trials} == {TrialState.COMPLETE} and len(trials) == 4 + 4
    search = [t.params for t in trials if t.user_attrs["role"] == "search"]
    assert all(a != b for a, b in itertools.combinations(search, 2))
    records = list(Ledger(tmp_path / "out/studies/smoke").records())
    assert [r.number for r in records] == list(range(8))
    spans = [(r.started_at, r.ended_at or 0.0) for r in records if r.role == "search"]
    assert any(a[0] < b[0] < a[1] for a, b in itertools.permutations(spans, 2)), "nothing ran side by side"
    assert all(f"1 of {os.cpu_count()} cores" in r.signature["machine"] for r in records)
    rounds = {(t.user_attrs["round"], t.user_attrs["confirms"]) for t in trials if "round" in t.user_attrs}
    assert len(rounds) == 4
    folder = tmp_path / "out/studies/smoke"
    assert all((folder / f"trials/{n:04d}/requests.parquet").is_file() for n in range(8))
    assert all(list((folder / "engines" / f"slot-{slot}").glob("*.log")) for slot in (0, 1))
    assert len(runs(tmp_path / "out")) == 9 and {r.info.status for r in runs(tmp_path / "out")} == {"FINISHED"}
    assert gone(str(tmp_path))


def test_the_place_is_part_of_the_hardware_a_study_was_measured_on(simulated: list[str]) -> None:
    class HalfTheMachine(Instant):
        def start(self, slot: int) -> None:
            signature = {**self._plan.signature, "machine": "1 of 2 cores"}
            self._messages.append((slot, Ready(signature, "here", 0)))

    make_study([*simulated, "study.trials=0"])
    with pytest.raises(ConfigError, match="figures of different hardware are not ranked together"):
        make_study([*simulated, "study.trials=1"], HalfTheMachine)


class StubWorker(Worker):
    """A worker without a plan and an engine, for its process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec

    def ready(self) -> Ready:
        return Ready({}, "here", os.getpid())

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        return {name: self._spec.slot for name in names}

    def refusals(self, engines: Mapping[str, EngineConfig]) -> Refusals:
        return Refusals({name: Infeasible(FailureKind.REFUSED, f"no {name}") for name in engines})

    def close(self) -> None: ...


@pytest.fixture
def stub_workers(tmp_path: Path) -> Iterator[Processes]:
    """Two worker processes that answer questions about engines."""
    specs = [WorkerSpec(StudyConfig(), [Place()], slot, tmp_path, tmp_path) for slot in (0, 1)]
    transport = Processes(specs, StubWorker)
    yield transport
    transport.close()
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("worker-")]


def answer_of(transport: Processes) -> tuple[int, Any]:
    ((slot, message),) = transport.wait(240)
    return slot, message


def test_worker_processes_answer_and_one_that_is_killed_is_lost(stub_workers: Processes) -> None:
    stub_workers.start(0)
    _, first = answer_of(stub_workers)
    stub_workers.start(1)
    slot, second = answer_of(stub_workers)
    assert slot == 1 and len({first.pid, second.pid, os.getpid()}) == 3
    stub_workers.send(1, "effective", EngineConfig("model", "fp16"), ["max_num_seqs"])
    assert answer_of(stub_workers) == (1, Effective({"max_num_seqs": 1}))
    stub_workers.send(1, "refusals", {"int4": EngineConfig("model", "int4")})
    assert answer_of(stub_workers) == (1, Refusals({"int4": Infeasible(FailureKind.REFUSED, "no int4")}))
    psutil.Process(first.pid).kill()
    slot, lost = answer_of(stub_workers)
    assert slot == 0 and isinstance(lost, Lost) and "ended with code -9" in lost.reason
    stub_workers.start(0)
    slot, again = answer_of(stub_workers)
    assert slot == 0 and again.pid != first.pid


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_no_trial(simulated: list[str], tmp_path: Path) -> None:
    process = start([*simulated, SETS, "study.trials=5"])
    read_until(process, r"^trial 2 ")
    victims = workers_of(process.pid)
    assert len(victims) == 2
    victims[0].kill()
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    trials = stored(tmp_path / "out").get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 6, out
    assert "lost its worker" in out and "it is run again" in out
    assert gone(str(tmp_path))


@pytest.mark.slow
def test_nothing_outlives_the_driver_and_the_same_command_goes_on(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    options = [*simulated, SETS, "study.trials=3"]
    for number, begun in ((signal.SIGINT, 3), (signal.SIGKILL, 2)):  # the baseline and two trials, two trials
        process = start(options)
        for _ in range(begun):
            read_until(process, r"^trial \d+ ")
        process.send_signal(number)
        process.communicate(timeout=280)
        assert process.returncode == (130 if number is signal.SIGINT else -number)
        assert gone(str(tmp_path))
    done = optimize(options)
    assert done.returncode == 0, done.stderr
    states = [t.state for t in stored(tmp_path / "out").get_trials()]
    assert states.count(TrialState.COMPLETE) == 4 and set(states) <= {TrialState.COMPLETE, TrialState.FAIL}
