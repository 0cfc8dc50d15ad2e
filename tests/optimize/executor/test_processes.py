"""Several engines at a time on this machine: whole studies on stand-ins, workers and drivers killed on the way."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from optimize.ledger import Ledger
from tests.conftest import Run, engine_processes
from tests.optimize.driver.test_session import read_until, runs, start, stored

HERE = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(HERE) < 2, reason="two places need two processors")
SETS = f"executor.cpu_sets=['{HERE[0]}','{HERE[1]}']"


def workers_of(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children() if "spawn_main" in " ".join(p.cmdline())]


def gone(marker: str) -> bool:
    """Whether what holds the marker in its command line ends within some seconds."""
    for _ in range(50):
        if not engine_processes(marker):
            return True
        time.sleep(0.2)
    return False


def test_a_study_on_two_places_measures_side_by_side_and_is_told_like_any_other(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    options = [*simulated, SETS, "study.trials=5", "confirm.candidates=1", "confirm.rounds=2"]
    done = optimize(options)
    assert done.returncode == 0, done.stderr
    assert "2 engines at a time on this machine" in done.stdout
    trials = stored(tmp_path / "out").get_trials()
    assert {t.state for t in trials} == {TrialState.COMPLETE} and len(trials) == 6 + 4
    search = [t.params for t in trials if t.user_attrs["role"] == "search"]
    assert all(a != b for a, b in itertools.combinations(search, 2))
    records = list(Ledger(tmp_path / "out/studies/smoke").records())
    assert [r.number for r in records] == list(range(10))
    spans = [(r.started_at, r.ended_at or 0.0) for r in records if r.role == "search"]
    assert any(a[0] < b[0] < a[1] for a, b in itertools.permutations(spans, 2)), "nothing ran side by side"
    assert all(f"1 of {os.cpu_count()} cores" in r.signature["machine"] for r in records)
    rounds = {(t.user_attrs["round"], t.user_attrs["confirms"]) for t in trials if "round" in t.user_attrs}
    assert len(rounds) == 4
    folder = tmp_path / "out/studies/smoke"
    assert all((folder / f"trials/{n:04d}/requests.parquet").is_file() for n in range(10))
    assert all(list((folder / "engines" / f"slot-{slot}").glob("*.log")) for slot in (0, 1))
    assert len(runs(tmp_path / "out")) == 11 and {r.info.status for r in runs(tmp_path / "out")} == {"FINISHED"}
    assert gone(str(tmp_path))
    again = optimize(options)
    assert again.returncode == 0 and len(stored(tmp_path / "out").get_trials()) == 10


def test_the_place_is_part_of_what_a_study_was_measured_on(optimize: Run, simulated: list[str]) -> None:
    assert optimize([*simulated, "study.trials=0"]).returncode == 0
    refused = optimize([*simulated, SETS, "study.trials=1"])
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "figures of different hardware are not ranked together" in refused.stderr


def test_a_worker_that_is_killed_loses_no_trial(simulated: list[str], tmp_path: Path) -> None:
    process = start([*simulated, SETS, "study.trials=5"])
    read_until(process, r"^trial 2 ")
    time.sleep(0.5)
    victims = workers_of(process.pid)
    assert len(victims) == 2
    victims[0].kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    trials = stored(tmp_path / "out").get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 6, out
    assert "lost its worker" in out and "it is run again" in out
    assert gone(str(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_driver_is_the_end_of_everything_and_the_same_command_goes_on(
    optimize: Run, simulated: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    options = [*simulated, SETS, "study.trials=3"]
    process = start(options)
    read_until(process, r"^trial 2 ")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert gone(str(tmp_path))
    done = optimize(options)
    assert done.returncode == 0, done.stderr
    states = [t.state for t in stored(tmp_path / "out").get_trials()]
    assert states.count(TrialState.COMPLETE) == 4 and set(states) <= {TrialState.COMPLETE, TrialState.FAIL}
