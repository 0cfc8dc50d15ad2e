"""No sampler asks for what rules forbid, and none for one engine twice by other values of a knob without effect."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from optimize.search.gp_sampler import LogScaleGPSampler
from optimize.search.grid_sampler import grid
from optimize.search.live_engine import EngineAware, EngineReuseSampler, LiveEngine
from optimize.search.permitted_sampler import PermittedSampler
from optimize.search.space import SearchSpace
from tests.optimize.search.spaces import range_of, space_of

SPACE = space_of(
    {
        "quantization": ["published", "int8"],
        "batch_size": range_of(1, 256, log=True),
        "beam_size": [1, 2, 4],
        "block_size": {"choices": [16, 32], "when": {"beam_size": [4]}},
        "forbid": ["batch_size * beam_size > 64", "quantization == 'int8' and block_size == 32"],
    }
)


def _around(sampler: BaseSampler) -> PermittedSampler:
    return PermittedSampler(EngineReuseSampler(sampler), SPACE.distributions, SPACE.allows, SPACE.canonical)


def _asked(sampler: BaseSampler, space: SearchSpace, n: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    for _ in range(n):
        trial = study.ask(dict(space.distributions))
        study.tell(trial, _figures(trial.params))
    return [trial.params for trial in study.trials]


def _figures(params: Mapping[str, Any]) -> list[float]:
    """The search is drawn towards what is forbidden."""
    return [1 / params["batch_size"] + 0.1 * params["beam_size"], 10.0 - params["beam_size"]]


@pytest.mark.parametrize(
    "sampler", [RandomSampler(seed=0), NSGAIISampler(population_size=4, seed=0), TPESampler(seed=0, n_startup_trials=6)]
)
def test_a_sampler_of_somebody_else_keeps_to_the_rules(sampler: BaseSampler) -> None:
    asked = _asked(_around(sampler), SPACE, 10)
    assert all(map(SPACE.allows, asked))
    assert len({params["batch_size"] for params in asked}) > 3


def test_the_search_keeps_to_the_rules_from_its_first_point_on() -> None:
    sampler = LogScaleGPSampler(n_startup_trials=4, seed=0, canonical=SPACE.canonical)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        asked = _asked(sampler, SPACE, 7)
    assert all(map(SPACE.allows, asked[1:])), "the first trial of a study is the baseline, which comes from the queue"


def test_a_grid_holds_each_permitted_engine_once() -> None:
    sampler = grid(SPACE.distributions, canonical=SPACE.canonical)
    study = optuna.create_study(sampler=sampler)
    while not sampler.is_exhausted(study):
        study.tell(study.ask(dict(SPACE.distributions)), 0.0)
    points = [trial.params for trial in study.trials]
    checkpoints = dict.fromkeys(SPACE.recipes, "m")
    configs = [SPACE.resolve(point, checkpoints) for point in points]
    assert all(map(SPACE.allows, points))
    assert len({(c.engine.key, c.request) for c in configs}) == len(points)
    # 2 recipes: 7 batch sizes of one beam, 6 of two; of four beams 5, with 2 block sizes unquantized and 1 of int8.
    assert len(points) == 2 * 7 + 2 * 6 + 5 * (2 + 1)


def test_a_sampler_that_proposes_nothing_permitted_has_its_point_moved() -> None:
    class Stubborn(RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return {"quantization": "int8", "batch_size": 256, "beam_size": 4, "block_size": 32}[param_name]

    assert all(map(SPACE.allows, _asked(_around(Stubborn()), SPACE, 2)))


def test_a_live_engine_is_kept_within_the_rules() -> None:
    sampler = _around(RandomSampler(seed=0))
    assert isinstance(sampler, EngineAware)
    engine = {"quantization": "published", "batch_size": 32, "block_size": 16}
    sampler.live = LiveEngine(engine, start_s=100.0, trial_s=1.0)
    asked = _asked(sampler, SPACE, 6)
    assert all(map(SPACE.allows, asked))
    assert {params["batch_size"] for params in asked} == {32}
    assert {params["beam_size"] for params in asked} == {1, 2}
