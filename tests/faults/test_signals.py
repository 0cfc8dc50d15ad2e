"""Signals at every phase of a study: nothing is lost but the running trial, and the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.faults.forks import PHASES, Forks
from tests.faults.study import ALL, Study
from tests.faults.tally import RESUMED, tallied

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SIGNALS = (signal.SIGTERM, signal.SIGKILL, *((signal.SIGINT, signal.SIGHUP) if ALL else ()))
"""The two of `FAULTS=all` are handled as SIGTERM is, which `tests/optimize/driver/test_signals.py` shows quickly."""
RECIPES = "search_space.quantization={choices: [fp16, int8]}"


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Iterator[Forks]:
    with Forks(Study(tmp_path_factory.mktemp("forks"), empty_mlflow_db, RECIPES)) as process:
        yield process


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_in_every_phase_of_one_study(
    forks: Forks, tmp_path: Path, empty_mlflow_db: Path, number: signal.Signals
) -> None:
    study, by_kill = Study(tmp_path, empty_mlflow_db, RECIPES), number is signal.SIGKILL
    with tallied(f"optimize, {number.name}") as tally:
        for phase in PHASES:
            session = forks.run(study, phase, number)
            assert session.code == (-number if by_kill else 130), f"{phase}: {session.out}{session.err}"
            assert by_kill or session.complaint() == "", phase
            assert study.losses(by_kill) == [], phase
            tally.add([phase], RESUMED)
    last = forks.run(study)
    assert last.complaint() == "" and last.code == 0
    assert study.losses() + study.shortfalls() == []
    failures = [t for t in study.trials() if t.state is TrialState.FAIL]
    assert len(failures) == 3  # the trials that were running: in the baseline, the search and the confirmation
