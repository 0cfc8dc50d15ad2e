"""Studies of made-up figures, confirmed in rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import IntDistribution

from objectives import Direction, Estimate
from optimize.config.schema import Confirm, Scenario
from optimize.decision.constraints import Limit
from optimize.outcome import ROLE, Role
from optimize.study.confirmation import Confirmation, Drain
from optimize.study.info import StudyInfo, store_info
from optimize.study.trial_attributes import CONFIRMS, ROUND

Figures = tuple[float, float]


Answer = Callable[[int, int], Figures | None]


FIRST: Mapping[int, Figures] = {0: (10.0, 1.0), 1: (14.0, 0.9), 2: (12.0, 0.7), 3: (13.0, 0.75), 4: (9.0, 1.2)}
"""Trial -> rate and latency as first read: 0 is the baseline, 3 was lucky, 4 is dominated."""


TRUE = {**FIRST, 3: (11.0, 0.95)}


def study_of(first: Mapping[int, Figures] = FIRST, limits: list[dict[str, Any]] | None = None) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    weights = {"qps": 1.0, "p99_latency_s": 1.0}
    directions = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE}
    bounds = tuple(Limit(**limit) for limit in limits or [])
    store_info(study, StudyInfo(Scenario(weights=weights), directions, bounds))
    for number in first:
        study.enqueue_trial({"x": number}, user_attrs={ROLE: Role.SEARCH if number else Role.BASELINE})
        run_trial(study, lambda *_, number=number: first[number])
    return study


def run_trial(study: optuna.Study, answer: Answer, latency_max_s: float = math.inf) -> None:
    """Run what is queued: figures, or None where it cannot be measured."""
    trial = study.ask({"x": IntDistribution(0, 9)})
    result = answer(trial.user_attrs.get(CONFIRMS, -1), trial.user_attrs.get(ROUND, -1))
    estimates = {
        n: Estimate(v, v * 0.99, v * 1.01, 10, "u").to_dict() for n, v in zip(FIGURES, result or (), strict=False)
    }
    attributes = {
        "imputed": result is None, "estimates": estimates, "answers_key": str(trial.params),
        "feasible": result is not None and result[1] <= latency_max_s,
    }  # fmt: skip
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    study.tell(trial, result or (0.0, 9.0))


FIGURES = ("qps", "p99_latency_s")


def true_figures(number: int, round_: int, figures: Mapping[int, Figures] = TRUE) -> Figures:
    qps, latency_s = figures[number]
    wobble = 1 + 0.01 * ((number + round_) % 3 - 1)
    return qps * wobble, latency_s / wobble


def one_by_one(run_next: Callable[[], None]) -> Drain:
    """Runs the trials of one slot, each as soon as it is queued."""

    def drain(has_next: Callable[[int], bool]) -> None:
        while has_next(0):
            run_next()

    return drain


def confirm(
    study: optuna.Study,
    answer: Answer = true_figures,
    candidates: int = 3,
    rounds: int = 3,
    latency_max_s: float = math.inf,
) -> None:
    Confirmation(
        study, Confirm(candidates, rounds), 0, one_by_one(lambda: run_trial(study, answer, latency_max_s))
    ).run()
