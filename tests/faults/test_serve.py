"""Every file write of `optimize.serve` fails once: its front goes on serving, or it ends in one line.

As in `test_writes`, one operation on each kind of file fails, or each with each error where FAULTS=all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.chain import rounds, sites_of, strike_all
from tests.faults.injector import Injector
from tests.faults.service import SERVE, Service
from tests.faults.study import ALL, MARK, Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if ALL else 600)]


def test_every_write_of_serve_fails_once(
    tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    injector = Injector(tmp_path)
    service = Service(tmp_path, empty_mlflow_db, injector)
    monkeypatch.setenv(MARK, str(tmp_path))  # in the environment of whatever it starts
    assert service.run().code == 0 and service.losses() == []

    def anew() -> Study:
        service.forget()
        return service

    sites = sites_of(injector, anew(), SERVE)
    assert {"engine-N.log", "log", "processes.jsonl", "restarts.jsonl", "temporary", "terminal"} <= {
        site.kind for site in sites if site.background
    }
    for faults in rounds(sites):
        strike_all(injector, anew, SERVE, faults)
