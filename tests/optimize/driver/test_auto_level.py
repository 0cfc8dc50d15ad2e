"""A study whose load is `auto`: its level is found once, said, kept, and the same for every trial and session."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import optuna
import pytest

from optimize.capacity import Capacity, Kind, Probe, Unit
from optimize.errors import ConfigError, FailureKind, OptimizeError
from optimize.executor.base import Job
from optimize.executor.worker import Carries, JobError
from optimize.load.arrivals import Arrivals, ClosedLoop, Poisson
from optimize.outcome import Evaluation, Failed, Infeasible
from optimize.plan import Plan
from optimize.testing.instant_workers import Instant
from tests.made import make_study

PROBES = (Probe(8.0, 5.0, 40, {"latency_s": 1.0}, True, 0.0), Probe(16.0, 5.0, 80, {"latency_s": 0.5}, False, 5.0))
USERS = Capacity(Unit.USERS, 12.0, 11.0, 13.0, Kind.BRACKETED, "latency_s", PROBES)
RATE = Capacity(Unit.PER_S, 12.344, 11.0, 13.0, Kind.BRACKETED, "latency_s", PROBES)


class Carrying(Instant):
    """Instant workers, the first of which says what the baseline carries."""

    asked = 0
    answer: Capacity | Infeasible | Failed = USERS
    loads: ClassVar[list[Arrivals | None]] = []

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        if method == "capacity":
            type(self).asked += 1
            answer = type(self).answer
            self._messages.append((slot, Carries(answer) if isinstance(answer, Capacity) else JobError(answer)))
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


def test_a_load_that_is_auto_is_four_fifths_of_what_the_baseline_carries(
    overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_study(overrides, Carrying)
    output = " ".join(capsys.readouterr().out.split())
    assert "load: 9 users, 80 % of the 12 (11 to 13) that vLLM's defaults carry within P99 of ttft_s <= 0.5 s" in output
    assert "2 probes, 10 s of load" in output
    assert Carrying.loads == [ClosedLoop(users=9)] * 2
    assert {s["load_level"] for s in signatures(plan)} == {"9 users"}
    assert "closed loop, users at 80 % of the baseline's capacity" in signatures(plan)[0]["load"]
    page = (plan.folder / "report/report.html").read_text(encoding="utf-8")
    assert "<dt>load_level</dt><dd>9 users</dd>" in page


def test_a_rate_is_rounded_to_three_digits(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carrying, "answer", RATE)
    words = [word for word in overrides if "arrivals" not in word]
    make_study([*words, "load=poisson", "load.arrivals.rate_per_s=auto", "load.capacity.auto_share=0.5"], Carrying)
    assert set(map(repr, Carrying.loads)) == {repr(Poisson(6.17))}


def test_a_study_that_goes_on_has_the_same_load_and_asks_nobody(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(overrides, Carrying)
    monkeypatch.setattr(Carrying, "answer", dataclasses.replace(USERS, value=40.0))
    plan = make_study([*overrides, "study.trials=2"], Carrying)
    assert Carrying.asked == 1 and set(map(repr, Carrying.loads)) == {repr(ClosedLoop(users=9))}
    assert {s["load_level"] for s in signatures(plan)} == {"9 users"}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (dataclasses.replace(USERS, value=0.0, kind=Kind.ZERO), ConfigError, "load.arrivals.users=auto: vLLM's "
         "defaults carry nothing within P99 of ttft_s <= 0.5 s, P99 of latency_s <= 2 s, errors <= 1 %, by latency_s: "
         "loosen slo, or give a number (load.arrivals.users=1)"),
        (Failed("a client process ended"), OptimizeError, "load.arrivals.users=auto: what vLLM's defaults carry cannot "
         "be found here: a client process ended; give a number (load.arrivals.users=1)"),
        (Infeasible(FailureKind.DEVICE_OOM, "no room"), OptimizeError, "cannot be found here: no room; free memory"),
    ],
)  # fmt: skip
def test_without_a_capacity_there_is_no_study(
    overrides: list[str], answer: Any, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Carrying, "answer", answer)
    with pytest.raises(kind) as error:
        make_study(overrides, Carrying)
    assert message in str(error.value) and "\n" not in str(error.value) and Carrying.loads == []


def test_a_load_with_a_level_of_its_own_asks_nobody(overrides: list[str]) -> None:
    make_study([word for word in overrides if "arrivals" not in word], Carrying)
    assert Carrying.asked == 0 and set(Carrying.loads) == {None}
