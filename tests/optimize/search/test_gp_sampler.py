"""The search by models."""

import itertools
import math
import random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from optimize.search.gp_sampler import GIVEN_POINTS_ATTR, LOG_SCALE_ATTR, LogScaleGPSampler
from optimize.search.history import History, log_scaled

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0), "k": CategoricalDistribution(["a", "b"])}


def _trial(x: float, k: str, values: list[float]) -> FrozenTrial:
    return create_trial(params={"x": x, "k": k}, distributions=SPACE, values=values)


def _suggestion(sampler: BaseSampler, log_beforehand: bool, log_scale: list[bool] | None) -> dict[str, Any]:
    """What a sampler asks for after twelve trials whose first objective spans four orders of magnitude."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    if log_scale is not None:
        study.set_user_attr(LOG_SCALE_ATTR, log_scale)
    rng = random.Random(0)
    for i in range(12):
        x, k = rng.random(), rng.choice("ab")
        rate, loss = 10 ** (4 * x), (x - 0.3) ** 2 + 0.1 * i
        for choice in [k] if i else "ab":  # the defaults' other choice is what would be tried first
            study.add_trial(_trial(x, choice, [math.log(rate) if log_beforehand else rate, loss]))
    before = [t.values for t in study.trials]
    params = study.ask(SPACE).params
    assert [t.values for t in study.trials[:-1]] == before
    return params


# Logarithms


def test_only_marked_values_are_logged() -> None:
    assert log_scaled([100.0, 0.25], [True, False]) == pytest.approx([math.log(100), 0.25])


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_values_without_a_logarithm_become_very_low(value: float) -> None:
    (logged,) = log_scaled([value], [True])
    assert math.isfinite(logged)
    assert logged < math.log(1e-6)


def test_one_flag_per_objective() -> None:
    with pytest.raises(ValueError, match="zip"):
        log_scaled([1.0, 2.0], [True])


def test_the_sampler_sees_exactly_the_logarithms() -> None:
    marked, beforehand, plain = (
        _suggestion(LogScaleGPSampler(seed=0), beforehand, log_scale)
        for beforehand, log_scale in ((False, [True, False]), (True, None), (False, None))
    )
    assert marked == beforehand != plain


# The first points, what could not be measured, and what was tried


def test_a_study_begins_with_each_choice_beside_the_defaults_other_settings() -> None:
    space: dict[str, BaseDistribution] = {
        "k": CategoricalDistribution("abc"), "flag": CategoricalDistribution([True, False]),
        "beam_size": CategoricalDistribution([1, 2, 4]), "x": IntDistribution(0, 999),
    }  # fmt: skip
    defaults = {"k": "a", "flag": False, "beam_size": 1, "x": 7}
    study = optuna.create_study(directions=["maximize"], sampler=LogScaleGPSampler(seed=1))
    study.add_trial(create_trial(params=defaults, distributions=space, value=1.0))
    asked = []
    for _ in range(3):
        trial = study.ask(space)
        asked.append(trial.params)
        study.tell(trial, 1.0)
    assert sorted(asked, key=repr) == sorted(
        [defaults | {"k": "b"}, defaults | {"k": "c"}, defaults | {"flag": True}], key=repr
    )


def test_where_such_choices_are_very_many_the_first_points_fill_the_space() -> None:
    space: dict[str, BaseDistribution] = {
        "k": CategoricalDistribution("abcdefghijklmnopqrst"),
        "x": IntDistribution(0, 999),
    }
    study = optuna.create_study(directions=["maximize"], sampler=LogScaleGPSampler(seed=1, n_startup_trials=6))
    study.add_trial(create_trial(params={"k": "a", "x": 0}, distributions=space, value=1.0))
    asked = []
    for _ in range(5):
        trial = study.ask(space)
        asked.append(trial.params["x"] // 200)
        study.tell(trial, 1.0)
    assert sorted(asked) == [0, 1, 2, 3, 4]


def test_points_that_fill_the_space_are_not_those_that_a_session_before_has_tried() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(0, 9), "k": CategoricalDistribution(["a", "b"])}
    storage = optuna.storages.InMemoryStorage()
    for seed in range(8):  # each as a session of its own, that was killed after a trial
        sampler = LogScaleGPSampler(seed=seed)
        study = optuna.create_study(storage=storage, study_name="one", sampler=sampler, load_if_exists=True)
        study.tell(study.ask(space), float(seed))
    tried = [t.params for t in study.trials]
    assert all(tried.count(params) == 1 for params in tried)


def test_no_point_is_tried_twice_while_there_are_others() -> None:
    space: dict[str, BaseDistribution] = {"k": CategoricalDistribution("abcdefgh"), "n": IntDistribution(1, 2)}
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=LogScaleGPSampler(seed=0, n_startup_trials=3)
    )
    seen = []
    for i in range(18):
        trial = study.ask(space)
        seen.append((trial.params["k"], trial.params["n"]))
        study.tell(trial, [float(trial.params["n"]), float(i % 3)])
    assert len(set(seen[3:16]) - set(seen[:3])) >= 12
    assert len(set(seen)) == 16


def test_of_very_many_trials_the_front_the_latest_and_some_others_are_modelled() -> None:
    rng = random.Random(0)
    trials = [_trial(rng.random(), "a", [rng.random(), 2.0 + rng.random()]) for _ in range(1000)]
    trials[5] = _trial(0.5, "b", [9.0, 0.0])
    for number, trial in enumerate(trials):
        trial.number = number
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    kept = History(SPACE, trials, []).subsample(directions, np.random.RandomState(0))
    numbers = [t.number for t in kept]
    assert len(kept) == 160 and numbers == sorted(set(numbers))
    assert 5 in numbers and numbers[-40:] == list(range(960, 1000))
    assert History(SPACE, trials[:160], []).subsample(directions, np.random.RandomState(0)) == trials[:160]


# Choices that are numbers


def test_a_trend_over_some_numbers_is_expected_to_go_on_beyond_them() -> None:
    """More is worse, and from four on it cannot run: eight is not worth a try."""
    space: dict[str, BaseDistribution] = {
        "beam_size": CategoricalDistribution([1, 2, 4, 6, 8]),
        "x": FloatDistribution(0.0, 1.0),
    }
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=LogScaleGPSampler(seed=0))
    rng = random.Random(1)
    for i in range(12):
        x, beam = rng.random(), (1, 2, 4, 6)[i % 4]
        trial = create_trial(
            params={"beam_size": beam, "x": x}, distributions=space, values=[x, beam + x],
            constraints={"runs": -1.0 if beam < 4 else 1.0},
        )  # fmt: skip
        trial.set_user_attr("imputed", beam >= 4)
        study.add_trial(trial)
    assert study.ask(space).params["beam_size"] in (1, 2)


# Trials under way


def under_way(sampler: BaseSampler, complete: int, asked: int) -> list[dict[str, Any]]:
    """Points asked for one after the other, none of them told."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    space: dict[str, Any] = {"a": IntDistribution(1, 3), "b": CategoricalDistribution([1, 2])}
    for number in range(complete):
        trial = study.ask(space)
        trial.set_constraint("c", -1.0 if number % 2 else 0.5)
        study.tell(trial, [float(trial.params["a"]), float(trial.params["b"])])
    return [study.ask(space).params for _ in range(asked)]


def test_points_under_way_are_not_offered_again_while_there_are_others() -> None:
    asked = under_way(LogScaleGPSampler(n_startup_trials=2, seed=0), complete=2, asked=4)
    assert all(a != b for a, b in itertools.combinations(asked, 2))


def test_a_point_that_the_machine_disturbed_is_left_alone_while_there_are_others() -> None:
    study = optuna.create_study(direction="minimize", sampler=LogScaleGPSampler(n_startup_trials=2, seed=0))
    space: dict[str, Any] = {"a": IntDistribution(1, 3), "b": CategoricalDistribution([1, 2])}
    for _ in range(2):
        trial = study.ask(space)
        study.tell(trial, float(trial.params["a"]))
    asked = []
    for _ in range(4):
        trial = study.ask(space)
        trial.set_user_attr("disturbed", ["other programs used 73% of the processors"])
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        asked.append(trial.params)
    assert all(a != b for a, b in itertools.combinations(asked, 2))


def test_where_everything_is_under_way_a_point_is_offered_all_the_same() -> None:
    assert len(under_way(LogScaleGPSampler(n_startup_trials=2, seed=0), complete=2, asked=8)) == 8


def test_many_slots_at_the_start_get_more_than_one_design() -> None:
    assert len(under_way(LogScaleGPSampler(n_startup_trials=3, seed=0), complete=0, asked=7)) == 7


def test_a_trial_that_another_driver_is_asking_for_does_not_confuse_the_model() -> None:
    study = optuna.create_study(direction="maximize", sampler=LogScaleGPSampler(n_startup_trials=2, seed=0))
    space: dict[str, Any] = {"a": CategoricalDistribution([8, 16, 64]), "b": IntDistribution(1, 9)}
    for _ in range(3):
        trial = study.ask(space)
        study.tell(trial, float(trial.params["a"]))
    half = study.ask()
    half.suggest_categorical("a", [8, 16, 64])  # "b" is still to come
    assert set(study.ask(space).params) == {"a", "b"}


def test_each_choice_is_tried_once_unless_earlier_studies_gave_points() -> None:
    space: dict[str, BaseDistribution] = {
        "k": CategoricalDistribution(["a", "b", "c"]), "n": IntDistribution(1, 64),
    }  # fmt: skip
    asked = []
    for first_points in (0, 2):
        sampler = LogScaleGPSampler(seed=0, n_startup_trials=2)
        study = optuna.create_study(directions=["maximize"], sampler=sampler)
        study.set_user_attr(GIVEN_POINTS_ATTR, first_points)
        for n in (8, 16, 4):
            study.add_trial(create_trial(params={"k": "a", "n": n}, distributions=space, value=float(n)))
        asked.append(study.ask(space).params)
    assert asked[0] == {"k": "b", "n": 8}
    assert asked[1] not in ({"k": "b", "n": 8}, {"k": "c", "n": 8})


def test_an_ordered_knob_measured_at_one_value_is_tried_at_another_farthest_from_the_limits() -> None:
    space: dict[str, BaseDistribution] = {
        "k": CategoricalDistribution(["slow", "fast"]), "beam_size": CategoricalDistribution([1, 2, 4, 8]),
    }  # fmt: skip
    study = optuna.create_study(directions=["maximize"], sampler=LogScaleGPSampler(seed=0, n_startup_trials=1))
    # Ratios to the limits count: a tenth of one is more room than halves of two.
    for k, room in (("slow", {"p99": -0.5, "error_rate": -0.5}), ("fast", {"p99": -0.9, "error_rate": -0.05})):
        params = {"k": k, "beam_size": 1}
        study.add_trial(create_trial(params=params, distributions=space, value=1.0, constraints=room))
    asked = []
    for _ in range(3):
        trial = study.ask(space)
        asked.append(trial.params)
        trial.set_constraint("p99", 1.0)
        trial.set_user_attr("imputed", True)
        study.tell(trial, 1.0)
    assert asked == [{"k": "fast", "beam_size": beams} for beams in (8, 4, 2)]


def test_where_many_ordered_knobs_were_measured_at_one_value_the_models_change_them_together() -> None:
    space: dict[str, BaseDistribution] = {f"n{i}": IntDistribution(0, 9) for i in range(8)}
    study = optuna.create_study(directions=["maximize"], sampler=LogScaleGPSampler(seed=0, n_startup_trials=2))
    space["k"] = CategoricalDistribution(["a", "b", "c", "d"])
    for k in "abcd":
        params = {name: 0 if name != "k" else k for name in space}
        study.add_trial(create_trial(params=params, distributions=space, value=1.0))
    assert sum(study.ask(space).params[f"n{i}"] != 0 for i in range(8)) > 1


def test_good_values_of_many_knobs_are_united_in_a_point_that_no_sample_holds() -> None:
    space: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(10)}
    study = optuna.create_study(directions=["maximize"], sampler=LogScaleGPSampler(seed=0, n_startup_trials=2))
    rng = random.Random(0)
    for _ in range(40):
        params = {name: rng.random() for name in space}
        study.add_trial(create_trial(params=params, distributions=space, value=sum(params.values())))
    best = max(t.value or 0.0 for t in study.trials)
    assert sum(study.ask(space).params.values()) > best + 1


def test_a_value_that_could_not_run_is_not_tried_again_for_every_trial_farther_from_the_limits() -> None:
    space: dict[str, BaseDistribution] = {
        "n": IntDistribution(1, 256, log=True), "beam_size": CategoricalDistribution([1, 2, 4]),
    }  # fmt: skip
    study = optuna.create_study(directions=["maximize"], sampler=LogScaleGPSampler(seed=0, n_startup_trials=2))
    study.enqueue_trial({"n": 64, "beam_size": 1})
    beams = []
    for number in range(16):
        trial = study.ask(space)
        beams.append(trial.params["beam_size"])
        slow = trial.params["beam_size"] > 1
        trial.set_constraint("p99", 1.0 if slow else -0.1 - 0.05 * number)  # luck: each has more room than those before
        trial.set_user_attr("imputed", slow)
        study.tell(trial, 1.0 / abs(trial.params["n"] - 40.5))
    assert {2, 4} < set(beams) and beams.count(1) > len(beams) / 2
