"""Building what a configuration node names, and refusing what it cannot."""

from typing import Any

import pytest

from objectives.latency import LatencyQuantile
from optimize.config.instantiate import build
from optimize.errors import ConfigError
from optimize.load.arrivals import ClosedLoop

LATENCY = "objectives.latency.LatencyQuantile"
CLOSED = "optimize.load.arrivals.ClosedLoop"
SIMULATED = "optimize.engine.simulated.SimulatedLauncher"


def test_builds_with_the_arguments_of_the_node() -> None:
    assert build({"_target_": LATENCY, "quantile": 0.9}, "objectives.p90") == LatencyQuantile(0.9)
    assert build({"_target_": LATENCY}, "objectives.p99") == LatencyQuantile()


def test_functions_are_targets_too() -> None:
    assert build({"_target_": "optimize.search.knobs.flag_of", "knob": "workers"}, "x") == "api_server_count"


def test_offers_are_taken_only_where_they_fit_and_are_not_set() -> None:
    node = {"_target_": CLOSED, "users": 3}
    assert build(node, "load.arrivals", users=5, think_s=1.5, seed=7) == ClosedLoop(users=3, think_s=1.5)


def test_node_is_left_as_it_was() -> None:
    node = {"_target_": CLOSED, "users": 3}
    build(node, "load.arrivals", think_s=1.0)
    assert node == {"_target_": CLOSED, "users": 3}


@pytest.mark.parametrize("node", [None, 3, "objectives.latency.LatencyQuantile", {}, {"_target_": 3}, ["a"]])
def test_a_node_needs_a_target(node: object) -> None:
    with pytest.raises(ConfigError, match=r"sampler must be a mapping with a _target_"):
        build(node, "sampler")


@pytest.mark.parametrize(
    "target",
    [
        "nowhere.at.all.Thing", "objectives.latency.Nothing", "nodots", "", ".relative.Thing", "objectives..Thing",
        "objectives.intervals.BATCHES", "optuna.distributions",
    ],
)  # fmt: skip
def test_targets_that_are_not_there_or_cannot_be_built_are_named(target: str) -> None:
    with pytest.raises(ConfigError, match="sampler"):
        build({"_target_": target}, "sampler")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": LATENCY, "quantil": 0.5},
            r"objectives\.x\.quantil is not a setting.*did you mean 'quantile'",
        ),
        ({"_target_": LATENCY, "quantile": 99}, r"objectives\.x: quantile must lie between 0 and 1, got 99"),
        ({"_target_": LATENCY, "quantile": "high"}, r"objectives\.x\.quantile must be a number, got 'high'"),
        ({"_target_": CLOSED, "users": 1.5}, r"objectives\.x\.users must be a whole number, got 1\.5"),
        ({"_target_": CLOSED, "users": [3]}, r"objectives\.x\.users must be a whole number, got \[3\]"),
        ({"_target_": SIMULATED, "flags": 5.5}, r"objectives\.x\.flags must be of type dict\[str, .*Any\], got 5\.5"),
        ({"_target_": SIMULATED, "refuses": "int8"}, r"objectives\.x\.refuses must be of type list\[str\], got 'int8'"),
        ({"_target_": SIMULATED, "oom_above_seqs": "9"}, r"objectives\.x\.oom_above_seqs must be of type int \| None"),
        ({"_target_": "optuna.distributions.IntDistribution", "low": 1}, r"objectives\.x: .*'high'"),
    ],
)
def test_arguments_that_do_not_fit_are_named_with_their_place(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(node, "objectives.x")


def test_an_error_of_our_own_is_passed_on_as_it_is() -> None:
    with pytest.raises(ConfigError) as caught:
        build({"_target_": CLOSED, "users": 0}, "load.arrivals")
    assert str(caught.value).startswith("load.arrivals: needs users >= 1")
