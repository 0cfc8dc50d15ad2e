"""Staying on the live engine: when it pays, and that the sampler then really does."""

import math
import random
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from optimize.driver.engine_reuse import EngineReuse, costs_of
from optimize.search.gp_sampler import LogScaleGPSampler
from optimize.search.grid_sampler import grid
from optimize.search.live_engine import EngineReuseSampler, LiveEngine
from optimize.study.trial_attributes import NEW_ENGINE

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE: dict[str, BaseDistribution] = {
    "batch_size": IntDistribution(1, 64, log=True),
    "recipe": CategoricalDistribution(["fp16", "int8"]),
    "beam_size": CategoricalDistribution([1, 2, 4]),
}


def study_with(sampler: BaseSampler, trials: int, start_s: float = 3.0, trial_s: float = 12.0) -> optuna.Study:
    """A study whose trials each started an engine, one for two beams; more beams are better, fewer requests quicker."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    rng = random.Random(1)
    for number in range(trials):
        batch_size = rng.choice([1, 8, 64])
        beams = 2 if number == 2 else 1
        params = {"batch_size": batch_size, "recipe": rng.choice(["fp16", "int8"]), "beam_size": beams}
        values = [beams * (1 + rng.random() / 10), math.log(1 + batch_size)]
        attrs = {"seconds": {"engine_start": start_s, "total": start_s + trial_s}, NEW_ENGINE: True}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=SPACE, values=values, user_attrs=attrs))
    return study


def tell(study: optuna.Study, trial: optuna.Trial, new_engine: bool) -> None:
    trial.set_user_attr("seconds", {"engine_start": 0.0, "total": 12.0})
    trial.set_user_attr(NEW_ENGINE, new_engine)
    study.tell(trial, [1.0, 1.0])


def engine_of(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "beam_size"}


def test_the_model_weighs_improvement_per_second() -> None:
    here = {"batch_size": 8, "recipe": "int8"}
    asked = {}
    for start_s in (0.001, 1e9):
        sampler = LogScaleGPSampler(n_startup_trials=4, seed=0)
        study = study_with(sampler, 12)
        sampler.live = LiveEngine(here, start_s=start_s, trial_s=1.0)
        asked[start_s] = study.ask(SPACE).params
    assert engine_of(asked[1e9]) == here
    assert asked[1e9]["beam_size"] in (2, 4)  # 1 was measured on that engine
    free = study_with(LogScaleGPSampler(n_startup_trials=4, seed=0), 12).ask(SPACE).params
    assert engine_of(free) != here


def test_the_model_goes_elsewhere_once_everything_here_was_tried() -> None:
    here = {"batch_size": 8, "recipe": "int8"}
    sampler = LogScaleGPSampler(n_startup_trials=4, seed=0)
    study = study_with(sampler, 12)
    for beams in (1, 2, 4):
        study.add_trial(
            optuna.trial.create_trial(
                params={**here, "beam_size": beams}, distributions=SPACE, values=[beams, 1.0],
                user_attrs={"seconds": {"engine_start": 0.0, "total": 12.0}, NEW_ENGINE: False},
            )
        )  # fmt: skip
    sampler.live = LiveEngine(here, start_s=1e9, trial_s=1.0)
    assert engine_of(study.ask(SPACE).params) != here


@pytest.mark.parametrize(("start_s", "settings"), [(1.0, 1), (108.0, 3), (192.0, 4)])
def test_other_samplers_stay_for_the_square_root_of_the_cost_ratio(start_s: float, settings: int) -> None:
    study = study_with(EngineReuseSampler(RandomSampler(seed=0)), 3, start_s=start_s, trial_s=12.0)
    reuse = EngineReuse(study, ["beam_size"])
    last = dict(study.trials[-1].params)
    stayed = 1
    for _ in range(10):
        reuse.offer(last)
        trial = study.ask(SPACE)
        if engine_of(trial.params) != engine_of(last):
            break
        stayed += 1
        tell(study, trial, new_engine=False)
    assert stayed == settings


def test_without_a_live_engine_or_request_knobs_nothing_is_fixed() -> None:
    sampler = EngineReuseSampler(RandomSampler(seed=0))
    study = study_with(sampler, 3, start_s=1e6)
    last = {"batch_size": 1, "recipe": "fp16", "beam_size": 1}
    EngineReuse(study, ["beam_size"]).offer(last)
    assert {engine_of(study.ask(SPACE).params)["batch_size"] for _ in range(5)} == {1}
    EngineReuse(study, ["beam_size"]).offer(None)
    assert sampler.live is None
    EngineReuse(study, ["temperature"]).offer(last)
    assert sampler.live is not None and sampler.live.only
    assert {engine_of(study.ask(SPACE).params)["batch_size"] for _ in range(5)} != {1}


def started(number: int, batch_size: int, workers: int, start_s: float, compiling_s: float) -> FrozenTrial:
    """A trial that has started an engine, and whose start has shown its phases."""
    params = {"batch_size": batch_size, "workers": workers, "recipe": "fp16"}
    seconds = {"total": start_s + 12.0, "engine_start": start_s, "engine_start.compiling": compiling_s}
    return optuna.trial.create_trial(
        params=params, distributions={**CODE, "recipe": SPACE["recipe"]}, values=[float(number), 1.0],
        user_attrs={"seconds": seconds, NEW_ENGINE: True},
    )  # fmt: skip


CODE: dict[str, BaseDistribution] = {
    "batch_size": CategoricalDistribution([32, 64, 128]), "workers": IntDistribution(1, 4),
}  # fmt: skip
STARTS = [(32, 1, 60.0, 40.0), (64, 1, 62.0, 42.0), (64, 2, 25.0, 5.0), (32, 2, 25.0, 5.0), (32, 4, 27.0, 7.0)]


def test_an_engine_whose_code_is_compiled_already_starts_sooner() -> None:
    start_s, code = costs_of([started(n, *row) for n, row in enumerate(STARTS)], ["batch_size", "recipe"])
    assert start_s == 20 + 5 and code.compile_s == 41 - 5
    assert code.seconds({"batch_size": 32, "workers": 3, "recipe": "fp16"}) == 0
    assert code.seconds({"batch_size": 128, "workers": 1, "recipe": "fp16"}) == 36
    assert code.seconds({"batch_size": 32, "workers": 1, "recipe": "int8"}) == 36


def test_without_compilation_a_start_costs_what_it_did() -> None:
    start_s, code = costs_of([started(n, size, 1, 3.0, 0.0) for n, size in enumerate([32, 64])], ["batch_size"])
    assert start_s == 3 and code.seconds({"batch_size": 128}) == 0


def test_the_loop_weighs_a_compilation_as_a_part_of_a_start() -> None:
    """Two processes for the server need no new code, and another batch size does."""
    sampler = LogScaleGPSampler(n_startup_trials=4, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.add_trials([started(n, *row) for n, row in enumerate(STARTS)])
    EngineReuse(study, []).offer(dict(study.trials[-1].params))
    live = sampler.live
    assert live is not None and live.only
    point = {"batch_size": 32, "workers": 4, "recipe": "fp16"}
    costs = [live.seconds(p) for p in (point, {**point, "workers": 3}, {**point, "batch_size": 128})]
    assert costs == [12, 12 + 25, 12 + 25 + 36]


def test_the_trials_that_an_engine_is_worth_share_its_start() -> None:
    here = {"batch_size": 8}
    shared = LiveEngine(here, start_s=90.0, trial_s=10.0)
    assert shared.seconds({"batch_size": 8}) == 10
    assert shared.seconds({"batch_size": 9}) == 10 + 90 / 3
    assert LiveEngine(here, start_s=90.0, trial_s=10.0, only=True).seconds({"batch_size": 9}) == 100
    assert LiveEngine(here, start_s=5.0, trial_s=10.0).seconds({"batch_size": 9}) == 15


def test_a_sampler_that_takes_no_account_of_the_engine_is_refused() -> None:
    with pytest.raises(TypeError, match="RandomSampler must be wrapped"):
        EngineReuse(study_with(RandomSampler(seed=0), 0), ["beam_size"])


def test_a_grid_exhausts_the_live_engine_first() -> None:
    space: dict[str, BaseDistribution] = {
        "batch_size": CategoricalDistribution([1, 8, 64]),
        "beam_size": CategoricalDistribution([1, 2, 4]),
    }
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=grid(space, seed=0))
    reuse = EngineReuse(study, ["beam_size"])
    asked: list[int] = []
    for _ in range(9):
        reuse.offer({"batch_size": asked[-1], "beam_size": 1} if asked else None)
        trial = study.ask(space)
        new_engine = not asked or trial.params["batch_size"] != asked[-1]
        asked.append(trial.params["batch_size"])
        trial.set_user_attr("seconds", {"engine_start": 3.0, "total": 15.0})
        trial.set_user_attr(NEW_ENGINE, new_engine)
        study.tell(trial, [1.0, 1.0])
    assert sum(a != b for a, b in zip(asked, asked[1:], strict=False)) == 2
    assert sorted(asked) == [1, 1, 1, 8, 8, 8, 64, 64, 64]
