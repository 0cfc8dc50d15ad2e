"""A study whose load is `auto`: its level is found once, said, kept, and the same for every trial and session."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import optuna
import pytest

from optimize.capacity import Capacity, Kind, Probe, Unit
from optimize.executor.base import Job
from optimize.executor.worker import Carries
from optimize.load.arrivals import Arrivals, ClosedLoop
from optimize.outcome import Evaluation
from optimize.plan import Plan
from optimize.testing.instant_workers import Instant
from tests.made import make_study

PROBES = (Probe(8.0, 5.0, 40, {"latency_s": 1.0}, True, 0.0), Probe(16.0, 5.0, 80, {"latency_s": 0.5}, False, 5.0))
USERS = Capacity(Unit.USERS, 12.0, 11.0, 13.0, Kind.BRACKETED, "latency_s", PROBES)


class Carrying(Instant):
    """Instant workers, the first of which says what the baseline carries."""

    asked = 0
    answer = USERS
    loads: ClassVar[list[Arrivals | None]] = []

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        if method == "capacity":
            type(self).asked += 1
            self._messages.append((slot, Carries(type(self).answer)))
            return
        super().send(slot, method, *arguments)

    def evaluate(self, job: Job) -> Evaluation:
        self.loads.append(job.arrivals)
        return super().evaluate(job)


@pytest.fixture
def overrides(simulated: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(Carrying, "asked", 0)
    monkeypatch.setattr(Carrying, "answer", USERS)
    Carrying.loads.clear()
    return [*simulated, "load.arrivals.users=auto", "study.trials=1", "confirm.candidates=0"]


def signatures(plan: Plan) -> list[dict[str, str]]:
    study = optuna.load_study(study_name=plan.config.study.name, storage=plan.config.tracking.storage)
    return [trial.user_attrs["signature"] for trial in study.trials]


def test_a_load_that_is_auto_is_found_once_and_the_same_for_all_trials_and_sessions(
    overrides: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_study(overrides, Carrying)
    output = " ".join(capsys.readouterr().out.split())
    assert "load: 9 users, 80 % of the 12 (11 to 13) that vLLM's defaults carry within P99 of ttft_s <= 0.5 s" in output
    assert "2 probes, 10 s of load" in output
    assert Carrying.loads == [ClosedLoop(users=9)] * 2
    assert "closed loop, users at 80 % of the baseline's capacity" in signatures(plan)[0]["load"]
    page = (plan.folder / "report/report.html").read_text(encoding="utf-8")
    assert "<dt>load_level</dt><dd>9 users</dd>" in page
    monkeypatch.setattr(Carrying, "answer", dataclasses.replace(USERS, value=40.0))
    make_study([*overrides, "study.trials=2"], Carrying)
    assert "load: 9 users, 80 % of the 12 (11 to 13)" in " ".join(capsys.readouterr().out.split())
    assert Carrying.asked == 1 and Carrying.loads == [ClosedLoop(users=9)] * 3
    assert {s["load_level"] for s in signatures(plan)} == {"9 users"}
