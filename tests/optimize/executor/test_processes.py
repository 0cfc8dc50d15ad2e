"""Several engines at a time on this machine: whole studies on stand-ins, workers and drivers killed on the way."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import Counter
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
def test_a_study_on_two_places_outlives_a_worker_and_two_drivers(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    """One study in three sessions: a worker is killed and the driver interrupted, the driver is killed, nobody is."""
    options = [*simulated, SETS, "study.trials=4", "confirm.candidates=1", "confirm.rounds=2"]
    lost = _lose_a_worker_and_interrupt(options)
    assert gone(str(tmp_path))
    _kill_the_driver(options)
    assert gone(str(tmp_path))
    done = optimize(options)
    assert done.returncode == 0, done.stderr
    assert "2 engines at a time on this machine" in done.stdout
    assert gone(str(tmp_path))
    trials = stored(tmp_path / "out").get_trials()
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert trials[lost].state is TrialState.COMPLETE, "the trial of the lost worker"
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    _check_complete(complete)
    _check_records(tmp_path / "out/studies/smoke", [t.number for t in complete])
    tracked = runs(tmp_path / "out")
    assert "RUNNING" not in {r.info.status for r in tracked}
    ended = [r.data.tags.get("trial", "the study") for r in tracked if r.info.status == "FINISHED"]
    assert sorted(ended) == sorted(["the study", *(str(t.number) for t in complete)])


def _lose_a_worker_and_interrupt(options: list[str]) -> int:
    """Kill a worker in the midst of two trials, and send the driver SIGINT once its trial has run again.

    Returns:
        The trial's number.
    """
    process = start(options)
    read_until(process, r"^trial 2 ")
    victims = workers_of(process.pid)
    assert len(victims) == 2
    victims[0].kill()
    line = read_until(process, "lost its worker")
    assert "it is run again" in line
    number = int(line.split()[1])
    read_until(process, rf"^  trial {number}: qps")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 130, err
    return number


def _kill_the_driver(options: list[str]) -> None:
    process = start(options)
    for _ in range(2):
        read_until(process, r"^trial \d+ ")
    process.kill()
    process.communicate(timeout=280)
    assert process.returncode == -signal.SIGKILL


def _check_complete(trials: list[Any]) -> None:
    """Baseline, search and confirmation, and no point of the search told twice."""
    assert Counter(t.user_attrs["role"] for t in trials) == {"baseline": 1, "search": 4, "confirmation": 4}
    search = [t.params for t in trials if t.user_attrs["role"] == "search"]
    assert all(a != b for a, b in itertools.combinations(search, 2))
    assert len({(t.user_attrs["round"], t.user_attrs["confirms"]) for t in trials if "round" in t.user_attrs}) == 4


def _check_records(folder: Path, numbers: list[int]) -> None:
    """A record and its files of every trial, some of them measured side by side, each on a processor of its own."""
    records = [r for r in Ledger(folder).records() if r.state == "completed"]
    assert [r.number for r in records] == numbers
    spans = [(r.started_at, r.ended_at or 0.0) for r in records if r.role == "search"]
    assert any(a[0] < b[0] < a[1] for a, b in itertools.permutations(spans, 2)), "nothing ran side by side"
    assert all(f"1 of {os.cpu_count()} cores" in r.signature["machine"] for r in records)
    assert all((folder / f"trials/{n:04d}/requests.parquet").is_file() for n in numbers)
    assert all(list((folder / "engines" / f"slot-{slot}").glob("*.log")) for slot in (0, 1))
