"""What an evaluation shows and keeps of an engine's start."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.engine.base import Engine, EngineConfig
from optimize.engine.startup import COMPILING, LOADING, PROCESSES
from optimize.errors import EngineFailure, FailureKind
from optimize.outcome import Completed, Infeasible
from optimize.testing.scripted_engine import ScriptedLauncher
from tests.optimize.evaluation.scripted import Rig

KEYS = [f"engine_start.{phase.replace(' ', '_')}" for phase in (PROCESSES, LOADING, COMPILING)]


class CompilingLauncher(ScriptedLauncher):
    """Its engines log that they load and compile, whether they start or not."""

    def launch(self, config: EngineConfig, log_path: Path) -> Engine:
        try:
            return super().launch(config, log_path)
        finally:
            with log_path.open("a") as log:
                log.write("Starting to load model m...\nWarming up model for the compilation...\n")


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


@pytest.mark.parametrize("failures", [{}, {"fp16": EngineFailure(FailureKind.CRASH, "died")}])
def test_an_engine_without_phases_keeps_none(tmp_path: Path, failures: dict[str, EngineFailure]) -> None:
    rig = Rig(tmp_path)
    rig.launcher = ScriptedLauncher(rig.clock, failures=failures)
    assert not [key for key in rig.evaluate().seconds if "engine_start." in key]
