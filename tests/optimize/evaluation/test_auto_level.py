"""The level of a load that is `auto`: what a configuration carries, a share of it, and why there may be none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from objectives.throughput import RequestRate
from optimize.capacity import Capacity, Kind, Unit
from optimize.config.capacity import CapacitySearch, ServiceLevel
from optimize.errors import ConfigError, EngineFailure, FailureKind, OptimizeError, TransientFault
from optimize.evaluation.auto_level import ask, at, level_from, level_of, required
from optimize.load.arrivals import Arrivals, ClosedLoop, Poisson
from optimize.testing.scripted_load import ScriptedAnswer, Server
from tests.optimize.evaluation.scripted import CONFIG, Rig, steady

SLO = ServiceLevel(latency_max_s=0.5)


def rig(tmp_path: Path, server: Server = steady, arrivals: Arrivals | None = None) -> Rig:
    case = Rig(tmp_path, server, {"qps": RequestRate()}, arrivals or Poisson(1.0), load={"capacity": CapacitySearch()})
    case.plan.config.slo = SLO
    case.plan.config.load.arrivals = {"users": "auto"} if isinstance(arrivals, ClosedLoop) else {"rate_per_s": "auto"}
    return case


def capacity(unit: Unit, value: float) -> Capacity:
    return Capacity(unit, value, 0.9 * value, 1.1 * value, Kind.BRACKETED, "latency_s", ())


def test_what_a_configuration_carries_is_asked_without_a_trial(tmp_path: Path) -> None:
    """A tenth of a second whatever the load: within half a second at every rate that is tried."""
    case = rig(tmp_path)
    case.plan.config.load.capacity.highest = 20.0
    capacity = ask(case.plan, CONFIG, case.pool, case.clients, case.phases.append, case.clock)
    assert (capacity.kind, capacity.value) == (Kind.AT_LEAST, 20.0) and case.phases[0] == "first answers"
    assert case.pool.is_live(CONFIG.engine) and list(case.ledger.records()) == []


def test_a_rate_has_three_digits_and_users_are_whole(tmp_path: Path) -> None:
    assert level_from(rig(tmp_path).plan, capacity(Unit.PER_S, 12.344)) == 9.88
    users = rig(tmp_path, arrivals=ClosedLoop(users=8)).plan
    assert level_from(users, capacity(Unit.USERS, 12.0)) == 9.0 and level_from(users, capacity(Unit.USERS, 1.0)) == 1.0


def test_a_load_keeps_its_shape_at_the_level_that_was_found(tmp_path: Path) -> None:
    plan = at(rig(tmp_path, arrivals=ClosedLoop(users=8, think_s=1.0)).plan, 5.0)
    assert plan.arrivals == ClosedLoop(users=5, think_s=1.0) and plan.signature["load_level"] == "5 users"


# --- none ----------------------------------------------------------------------------------------------------------


def test_an_engine_that_carries_nothing_sets_no_load(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        level_from(rig(tmp_path, arrivals=ClosedLoop(users=8)).plan, capacity(Unit.USERS, 0.0))
    assert str(error.value) == (
        "load.arrivals.users=auto: vLLM's defaults carry nothing within P99 of latency_s <= 0.5 s, errors <= 1 %, by "
        "latency_s: loosen slo, or give a number (load.arrivals.users=1)"
    )


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (TransientFault("a client process ended"), "a client process ended"),
        (EngineFailure(FailureKind.DEVICE_OOM, "no room"), "no room; free memory"),
    ],
)
def test_an_engine_that_does_not_run_sets_no_load(tmp_path: Path, failure: OptimizeError, reason: str) -> None:
    def asked() -> NoReturn:
        raise failure

    with pytest.raises(OptimizeError) as error:
        required(rig(tmp_path).plan, asked)
    assert f"load.arrivals.rate_per_s=auto: what vLLM's defaults carry cannot be found here: {reason}" in str(
        error.value
    )
    assert not isinstance(error.value, ConfigError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [("throttled", "the endpoint throttles: it turned 1 of 1"), ("refused", "refuses such requests")],
)
def test_an_endpoint_that_refuses_load_is_refused_in_one_line(tmp_path: Path, error: str, reason: str) -> None:
    case = rig(tmp_path, lambda _: ScriptedAnswer(0.1, error, "HTTP 429: too many"))
    case.engines.request_knobs_only = True
    with pytest.raises(ConfigError) as refusal:
        required(case.plan, lambda: ask(case.plan, CONFIG, case.pool, case.clients, case.phases.append, case.clock))
    text = str(refusal.value)
    assert text.startswith("load.arrivals.rate_per_s=auto: the endpoint refuses load: ") and reason in text
    assert text.endswith("; give a number (load.arrivals.rate_per_s=1)") and "\n" not in text


# --- a level that is set beforehand ---------------------------------------------------------------------------------


def with_otherwise(tmp_path: Path) -> Rig:
    case = rig(tmp_path, arrivals=ClosedLoop(users=8))
    case.plan.config.load.capacity.otherwise = 4.0
    return case


def raising(error: OptimizeError) -> Callable[[], Capacity]:
    def capacity() -> NoReturn:
        raise error

    return capacity


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (lambda: capacity(Unit.USERS, 0.0), "vLLM's defaults carry nothing within P99 of latency_s <= 0.5 s"),
        (raising(EngineFailure(FailureKind.DEVICE_OOM, "no room")), "what vLLM's defaults carry cannot be found here"),
    ],
)
def test_a_study_goes_on_at_a_level_set_beforehand_where_there_is_no_capacity(
    tmp_path: Path, asked: Callable[[], Capacity], reason: str
) -> None:
    level = level_of(with_otherwise(tmp_path).plan, asked)
    assert (level.value, level.capacity) == (4.0, None) and "\n" not in level.words
    assert level.words.startswith(f"load: 4 users, as load.capacity.otherwise says; load.arrivals.users=auto: {reason}")


def test_a_capacity_is_preferred_and_a_passing_fault_sets_no_level(tmp_path: Path) -> None:
    plan = with_otherwise(tmp_path).plan
    level = level_of(plan, lambda: capacity(Unit.USERS, 100.0))
    assert (level.value, level.capacity) == (80.0, capacity(Unit.USERS, 100.0))
    with pytest.raises(OptimizeError, match="a client process ended"):
        level_of(plan, raising(TransientFault("a client process ended")))
