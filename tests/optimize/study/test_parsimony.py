"""A recommended configuration keeps vLLM's default in every knob whose change is not shown to help.

The studies are of a made-up engine for four users: INT8 alone makes it faster. More workers do nothing, and neither do
more sequences at once than there are users.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from objectives import Direction, Estimate
from optimize.config.schema import Confirm, Scenario
from optimize.decision.recommendation import Recommendation
from optimize.outcome import ROLE, Role
from optimize.report.changed_knobs import changed_knobs
from optimize.study.confirmation import Confirmation, first_reading, recommendation
from optimize.study.info import StudyInfo, store_info
from optimize.study.parsimony import LEAST_TRIALS, queue_reduced, reduced_trials
from tests.optimize.study.confirmations import one_by_one

SPACE: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(["fp16", "int8"]),
    "batch_size": IntDistribution(1, 256, log=True),
    "workers": CategoricalDistribution([1, 2]),
}
DEFAULT = {"quantization": "fp16", "batch_size": 128, "workers": 1}
REDUCED = {**DEFAULT, "quantization": "int8"}
WASTEFUL = {"quantization": "int8", "batch_size": 242, "workers": 2}
USERS = 4


def _rate(params: Mapping[str, Any], worth_of_workers: float) -> float:
    """Requests per second."""
    speed = 15.0 if params["quantization"] == "int8" else 10.0
    speed *= worth_of_workers if params["workers"] == 2 else 1.0
    return speed * min(int(params["batch_size"]), USERS) / USERS


def _run_next(study: optuna.Study, rng: random.Random, worth_of_workers: float, lateness: float = 1.0) -> None:
    trial = study.ask(SPACE)
    rate = _rate(trial.params, worth_of_workers) * rng.lognormvariate(0, 0.02)
    figures = {"qps": rate, "p99_latency_s": lateness * USERS / rate}
    estimates = {name: Estimate(v, v * 0.98, v * 1.02, 50, "").to_dict() for name, v in figures.items()}
    for name, value in {"imputed": False, "estimates": estimates, "feasible": True, "answers_key": ""}.items():
        trial.set_user_attr(name, value)
    study.tell(trial, list(figures.values()))


def _searched(trials: int = 20, worth_of_workers: float = 1.0) -> tuple[optuna.Study, random.Random]:
    """A study whose search is done but for its last trial; the luckiest reading is that of a wasteful point."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=1))
    directions = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE}
    weights = dict.fromkeys(directions, 1.0)
    store_info(study, StudyInfo(Scenario(weights=weights), directions, saturation={"batch_size": float(USERS)}))
    rng = random.Random(1)
    study.enqueue_trial(DEFAULT, user_attrs={ROLE: Role.BASELINE})
    for _ in range(trials):
        _run_next(study, rng, worth_of_workers)
    study.enqueue_trial(WASTEFUL)
    _run_next(study, random.Random(0), worth_of_workers * 1.05)
    return study, rng


def _reduce(study: optuna.Study, rng: random.Random, worth_of_workers: float = 1.0) -> None:
    best = first_reading(study)
    assert best is not None and best.pick.params == WASTEFUL
    queue_reduced(study, best.front, dict)
    _run_next(study, rng, worth_of_workers)


def _confirmed(study: optuna.Study, rng: random.Random, worth_of_workers: float = 1.0) -> Recommendation:
    Confirmation(study, Confirm(2, 3), 0, one_by_one(lambda: _run_next(study, rng, worth_of_workers))).run()
    result = recommendation(study)
    assert result is not None
    return result


def test_knobs_that_do_nothing_keep_vllms_defaults() -> None:
    study, rng = _searched()
    _reduce(study, rng)
    result = _confirmed(study, rng)
    assert result.pick.params == REDUCED and result.rounds == 3
    assert {c.number for c in result.considered} >= {0, *reduced_trials(study), *reduced_trials(study).values()}
    assert changed_knobs(result, reduced_trials(study)) == (
        "quantization makes the difference; batch_size and workers keep vLLM's defaults"
    )


def test_a_knob_that_helps_is_kept() -> None:
    """Two workers serve half as many again."""
    study, rng = _searched(worth_of_workers=1.5)
    _reduce(study, rng, 1.5)
    result = _confirmed(study, rng, 1.5)
    assert result.pick.params == {**REDUCED, "workers": 2}
    assert changed_knobs(result, reduced_trials(study)).startswith("quantization and workers make the difference")


def test_where_the_rounds_show_that_the_search_was_wrong_the_best_point_stays() -> None:
    """In the rounds two workers serve twice as many, of which the search has shown nothing."""
    study, rng = _searched()
    _reduce(study, rng)
    assert _confirmed(study, rng, 2.0).pick.params == WASTEFUL


def test_a_point_beside_the_best_gives_way_to_its_reduced_form() -> None:
    """The best reading is that of the reduced point itself; the wasteful one is on the front, too."""
    study, rng = _searched()
    study.enqueue_trial(REDUCED)
    _run_next(study, rng, 1.0, lateness=0.8)
    best = first_reading(study)
    assert best is not None and [c.params for c in best.front[:2]] == [REDUCED, WASTEFUL]
    queue_reduced(study, best.front, dict)
    assert reduced_trials(study)[best.front[1].number] == best.pick.number
    result = _confirmed(study, rng)
    assert result.pick.params == REDUCED and best.front[1].number not in {c.number for c in result.considered}


def test_a_reduced_form_is_queued_once_and_not_from_few_trials() -> None:
    study, rng = _searched()
    _reduce(study, rng)
    before = len(study.trials)
    (number,) = reduced_trials(study)
    pick = next(c for c in first_reading(study).considered if c.number == number)  # type: ignore[union-attr]
    queue_reduced(study, [pick], dict)
    assert len(study.trials) == before
    few, _ = _searched(trials=LEAST_TRIALS - 2)
    best = first_reading(few)
    assert best is not None
    queue_reduced(few, best.front, dict)
    assert reduced_trials(few) == {} and all(t.state.is_finished() for t in few.trials)


@pytest.mark.parametrize("reduced", [{}, {7: 9}])
def test_what_was_not_tested_is_not_said_to_make_the_difference(reduced: dict[int, int]) -> None:
    study, _ = _searched()
    best = first_reading(study)
    assert best is not None
    assert (
        changed_knobs(best, reduced)
        == "quantization, batch_size and workers differ from vLLM's defaults, each untested"
    )
