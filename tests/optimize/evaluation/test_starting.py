"""What an evaluation shows and keeps of an engine's start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.config.measuring import Guard
from optimize.engine.base import Engine, EngineConfig
from optimize.engine.startup import COMPILING, LOADING, PROCESSES
from optimize.errors import EngineFailure, FailureKind
from optimize.evaluation.interference import Machine
from optimize.evaluation.starting import StartWatch, descendants_s, watched
from optimize.outcome import Completed, Failed, Infeasible
from optimize.testing.scripted_engine import ScriptedLauncher
from tests.optimize.evaluation.scripted import Rig, ScriptedWatch

KEYS = [f"engine_start.{phase.replace(' ', '_')}" for phase in (PROCESSES, LOADING, COMPILING)]


class CompilingLauncher(ScriptedLauncher):
    """Its engines log that they load and compile, whether they start or not."""

    def launch(self, config: EngineConfig, log_path: Path) -> Engine:
        try:
            return super().launch(config, log_path)
        finally:
            with log_path.open("a") as log:
                log.write("\x1b[0;36m(EngineCore)\x1b[0;0m Starting to load model m...\n")
                log.write("Warming up model for the compilation...\n")


def test_the_phases_of_a_start_are_shown_and_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.launcher = CompilingLauncher(rig.clock)
    first, second = rig.evaluate(), rig.evaluate()
    assert isinstance(first.outcome, Completed)
    assert [key for key in first.seconds if "engine_start." in key] == KEYS
    assert rig.phases[:3] == ["starting the engine", *(f"starting the engine: {p}" for p in (LOADING, COMPILING))]
    assert not [key for key in second.seconds if "engine_start." in key]  # the live engine


def test_a_start_that_failed_keeps_its_phases_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    failure = EngineFailure(FailureKind.TIMEOUT, "engine did nothing for 600 s while compiling")
    rig.launcher = CompilingLauncher(rig.clock, failures={"fp16": failure})
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Infeasible)
    assert list(evaluation.seconds) == [*KEYS, "total"]
    log = rig.ledger.log(0).read_text()
    assert "(EngineCore) Starting to load" in log and "\x1b" not in log


BUSY = "other programs used 73% of the processors (load.guard.other_cores_max=0.12)"


@pytest.mark.parametrize(
    ("kind", "disturbances", "disturbed"),
    [(FailureKind.TIMEOUT, [BUSY], True), (FailureKind.TIMEOUT, [], False), (FailureKind.CRASH, [BUSY], False)],
)
def test_a_start_that_fails_on_a_disturbed_machine_says_so(
    kind: FailureKind, disturbances: list[str], disturbed: bool, tmp_path: Path
) -> None:
    rig = Rig(tmp_path)
    rig.starts_among = disturbances
    rig.fail_starts(fp16=EngineFailure(kind, "engine did nothing for 600 s while compiling"))
    evaluation = rig.evaluate()
    outcome = evaluation.outcome
    assert isinstance(outcome, Failed if disturbed else Infeasible)
    assert list(evaluation.disturbances) == disturbances and (BUSY in outcome.reason) is bool(disturbances)


def test_what_disturbed_a_start_that_succeeded_is_no_disturbance_of_the_window(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.starts_among = [BUSY]
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Completed) and evaluation.disturbances == []


def test_the_machine_is_judged_by_the_mean_over_the_start() -> None:
    cores = len(os.sched_getaffinity(0))
    counters = [{"clock": float(s), "busy": cores * busy, "steal": 0.0, "own": 0.0} for s, busy in enumerate([0, 0, 1])]
    ahead = iter(counters)
    watch = StartWatch(Machine(tuple, lambda cpus, pids: next(ahead)))
    watch.sample()
    assert watch.disturbances(Guard()) == []
    watch.sample()
    (line,) = watch.disturbances(Guard())
    assert line.startswith("other programs used 50% of the processors")


def test_the_failure_of_a_start_knows_what_disturbed_it_and_nothing_else_does() -> None:
    with pytest.raises(EngineFailure) as caught, watched(Guard(), ScriptedWatch([BUSY])):
        raise EngineFailure(FailureKind.TIMEOUT, "stood still")
    assert caught.value.disturbances == (BUSY,)
    assert EngineFailure(FailureKind.TIMEOUT, "stood still").disturbances is None


def test_processes_that_ended_count_with_the_one_that_waited_for_them() -> None:
    before = descendants_s()
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-S", "-c", burn], check=True)
    assert descendants_s() - before > 0.15  # its clock ticks every 10 ms


@pytest.mark.parametrize("failures", [{}, {"fp16": EngineFailure(FailureKind.CRASH, "died")}])
def test_an_engine_without_phases_keeps_none(tmp_path: Path, failures: dict[str, EngineFailure]) -> None:
    rig = Rig(tmp_path)
    rig.launcher = ScriptedLauncher(rig.clock, failures=failures)
    assert not [key for key in rig.evaluate().seconds if "engine_start." in key]
