"""Settings of a service-level objective: what they say, and which of them are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from objectives import Objective
from objectives.capacity import CapacityRate, CapacityUsers
from objectives.throughput import RequestRate
from optimize.capacity import Quantity, Unit
from optimize.config.capacity import CapacitySearch, ServiceLevel
from optimize.config.measuring import Load, WorkloadSource
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals, ClosedLoop, Poisson, Ramp
from optimize.load.levels import at_level, auto_setting, level_of, unit_of, without_auto
from optimize.load.service_level import check_capacity, check_objectives, load_in_words, search_of, slo_of

LIMITS = {"ttft_max_s": 0.5, "latency_max_s": 2.0}


def config(slo: dict[str, Any], node: dict[str, Any] | None = None, turns: str = "last", **search: Any) -> StudyConfig:
    load = Load(arrivals=node or {}, capacity=CapacitySearch(**{"search": node is None, **search}))
    return StudyConfig(load=load, slo=ServiceLevel(**slo), workload=WorkloadSource("w", "p", turns=turns))


def test_limits_hold_at_a_quantile_or_all_at_once_for_a_share() -> None:
    slo = slo_of(ServiceLevel(ttft_max_s=0.5, tpot_max_s=0.05, quantile=0.9, error_rate_max=0.02))
    assert [(x.quantity, x.most_s, x.share) for x in slo.limits] == [
        (Quantity.TTFT, 0.5, 0.9), (Quantity.TPOT, 0.05, 0.9),
    ]  # fmt: skip
    assert slo.criteria() == {"ttft_s": 0.9, "tpot_s": 0.9, "errors": 0.98}
    assert slo_of(ServiceLevel(latency_max_s=2.0, share=0.95)).criteria() == {"joint": 0.95, "errors": 0.99}


def test_a_search_starts_at_the_load_of_the_configuration_within_its_reach() -> None:
    search = search_of(CapacitySearch(highest=50.0), Poisson(4.0), incumbent=12.0)
    assert (search.unit, search.first, search.highest, search.incumbent) == (Unit.PER_S, 4.0, 50.0, 12.0)
    assert search_of(CapacitySearch(highest=2.0), ClosedLoop(users=3)).first == 2.0


def test_a_load_keeps_its_shape_at_another_level() -> None:
    assert at_level(Poisson(1.0), 7.5) == Poisson(7.5)
    assert at_level(ClosedLoop(users=1, think_s=2.0), 7.6) == ClosedLoop(users=8, think_s=2.0)
    assert at_level(ClosedLoop(users=4), 0.1) == ClosedLoop(users=1)
    assert (level_of(Poisson(2.5)), level_of(ClosedLoop(users=4))) == (2.5, 4.0)
    assert (unit_of(Poisson(2.5)), unit_of(ClosedLoop(users=4))) == (Unit.PER_S, Unit.USERS)


def test_auto_is_read_off_the_arrivals() -> None:
    node = {"_target_": "optimize.load.arrivals.ClosedLoop", "users": "auto", "think_s": 1.0}
    assert auto_setting(node) == "users" and without_auto(node) == {**node, "users": 8}
    assert auto_setting({"rate_per_s": "auto"}) == "rate_per_s"
    assert auto_setting({"users": 4}) == auto_setting(None) == "" and without_auto({"users": 4}) == {"users": 4}


@pytest.mark.parametrize(
    ("make_config", "arrivals", "words"),
    [
        (lambda: config(LIMITS), Poisson(1.0), "capacity in requests/s, Poisson arrivals: P99 of ttft_s <= 0.5 s, P99 "
         "of latency_s <= 2 s, errors <= 1 % (to 10 % or within 180 s of load, from 1)"),
        (lambda: config({"latency_max_s": 2.0, "share": 0.95}), ClosedLoop(users=1), "capacity in users, closed loop: "
         "latency_s <= 2 s for 95 % of requests, errors <= 1 % (to 10 % or within 180 s of load, from 1)"),
        (lambda: config({"latency_max_s": 2.0}, {"users": "auto"}), ClosedLoop(users=8), "closed loop, users at 80 % "
         "of the baseline's capacity (P99 of latency_s <= 2 s, errors <= 1 %)"),
        (lambda: config({}, {"users": 4}), ClosedLoop(users=4), "closed loop, 4 users"),
    ],
)  # fmt: skip
def test_signatures_name_the_load(make_config: Callable[[], StudyConfig], arrivals: Arrivals, words: str) -> None:
    assert load_in_words(make_config(), arrivals) == words


@pytest.mark.parametrize(
    ("make_config", "arrivals", "beams", "message"),
    [
        (lambda: config({}), Poisson(1.0), 1, "a search for a capacity (load.capacity.search=true) needs a limit to "
         "keep, and slo has none: give slo.ttft_max_s, slo.tpot_max_s or slo.latency_max_s"),
        (lambda: config({}, {"users": "auto"}), ClosedLoop(users=8), 1, "load.arrivals.users=auto needs a limit"),
        (lambda: config(LIMITS), Poisson(1.0), 4, "slo.ttft_max_s limits what a streamed answer shows, and beam search "
         "(beam_size=4) streams none: limit slo.latency_max_s alone (slo.ttft_max_s=null), or search without beams"),
        (lambda: config({"tpot_max_s": 0.1}), Poisson(1.0), 2, "slo.tpot_max_s limits what a streamed answer shows"),
        (lambda: config({"ttft_max_s": 3.0, "latency_max_s": 2.0}), Poisson(1.0), 1, "slo.ttft_max_s=3 is more than "
         "slo.latency_max_s=2, and no first token comes after the answer's end: lower the first"),
        (lambda: config({"latency_max_s": 2.0, "share": 0.99, "quantile": 0.9}), Poisson(1.0), 1, "slo.share=0.99 "
         "takes the place of slo.quantile=0.9: give one of the two"),
        (lambda: config(LIMITS), Ramp(), 1, "a capacity is searched for by changing one level, and Poisson arrivals, 1 "
         "to 20 requests/s over 30 s has none: choose load=capacity"),
        (lambda: config(LIMITS, highest=5.0), Poisson(9.0), 1, "load.arrivals begins at 9, which is more than "
         "load.capacity.highest=5: raise the second"),
        (lambda: config(LIMITS, probe_min_s=60.0, load_max_s=30.0), Poisson(1.0), 1, "load.capacity.probe_min_s=60 is "
         "more than load.capacity.load_max_s=30: raise the second"),
        (lambda: config(LIMITS, {"users": "auto"}, search=True), ClosedLoop(users=8), 1, "load.arrivals.users=auto "
         "asks for the load that load.capacity.search looks for: give a number to start from"),
        (lambda: config(LIMITS, turns="all"), ClosedLoop(users=8), 1, "choose workload.turns=last"),
    ],
)  # fmt: skip
def test_limits_that_nothing_can_be_measured_against_are_refused(
    make_config: Callable[[], StudyConfig], arrivals: Arrivals, beams: int, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check_capacity(make_config(), arrivals, beams)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_beams_of_the_search_space_play_no_part_where_the_baseline_alone_is_asked() -> None:
    check_capacity(config(LIMITS, {"users": "auto"}), ClosedLoop(users=8), beams=8)


@pytest.mark.parametrize(
    ("metric", "make_config", "arrivals", "message"),
    [
        (CapacityRate(), lambda: config(LIMITS, {"users": 4}), ClosedLoop(users=4), "this load is closed loop, 4 "
         "users: choose load=capacity"),
        (CapacityUsers(), lambda: config(LIMITS), Poisson(1.0),
         "choose load=capacity_users, or name capacity_per_s in its place"),
        (CapacityRate(), lambda: config(LIMITS), ClosedLoop(users=1),
         "choose load=capacity, or name capacity_users in its place"),
    ],
)  # fmt: skip
def test_a_capacity_that_no_load_shows_is_no_objective(
    metric: Objective, make_config: Callable[[], StudyConfig], arrivals: Arrivals, message: str
) -> None:
    for objectives, bounded in (({"mine": metric}, []), ({}, [metric])):
        with pytest.raises(ConfigError) as error:
            check_objectives(make_config(), arrivals, objectives, bounded)
        assert str(error.value).endswith(message)
    check_objectives(make_config(), arrivals, {"qps": RequestRate()}, [])
