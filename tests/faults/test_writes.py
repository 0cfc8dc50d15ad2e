"""Every file write of a study and of what reads it fails once; the same command then goes on.

Of the operations on one kind of file one fails, and functions and errors take turns. With FAULTS=all in the
environment every operation fails with each of the errors, which takes ten minutes of a processor; pytest's -s shows
the counts meanwhile.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.chain import rounds, sites_of, strike_all
from tests.faults.injector import Injector
from tests.faults.study import ALL, Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if ALL else 3600)]
FULL = 3
"""Moments of a study at which its disk is full from then on."""


@pytest.fixture
def new_study(tmp_path: Path, empty_mlflow_db: Path) -> Callable[[], Study]:
    """Makes studies, each in a folder of its own."""
    numbers = itertools.count()
    return lambda: Study(tmp_path / f"study{next(numbers)}", empty_mlflow_db)


def test_every_write_of_a_study_fails_once(tmp_path: Path, new_study: Callable[[], Study]) -> None:
    injector = Injector(tmp_path)
    for faults in rounds(sites_of(injector, new_study())):
        strike_all(injector, new_study, "optimize", faults)


def test_a_disk_that_stays_full_ends_a_session_in_one_line(tmp_path: Path, new_study: Callable[[], Study]) -> None:
    injector = Injector(tmp_path, lasting=True)
    sites = list(sites_of(injector, new_study()))
    full = dict.fromkeys(sites[:: 1 if ALL else len(sites) // FULL], errno.ENOSPC)
    strike_all(injector, new_study, "optimize", full)


def test_every_write_of_the_other_commands_fails_once(
    tmp_path: Path, new_study: Callable[[], Study], empty_mlflow_db: Path
) -> None:
    study, numbers = new_study(), itertools.count()
    assert study.run().code == 0 and study.losses() == []

    def newly_tracked() -> Study:
        study.track_in(empty_mlflow_db, f"store{next(numbers)}")
        return study

    for verb in ("optimize.report", "optimize.recommend", "optimize.sync"):
        injector = Injector(tmp_path)
        for faults in rounds(sites_of(injector, newly_tracked(), verb)):
            strike_all(injector, newly_tracked, verb, faults)
