"""SMAC3 as one of the samplers; it needs an environment of its own: `pip install smac`, beside this project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import optuna
from ConfigSpace import (  # type: ignore[import-not-found]
    Categorical,
    Configuration,
    ConfigurationSpace,
    Float,
    Integer,
)
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from smac import HyperparameterOptimizationFacade, Scenario  # type: ignore[import-not-found]
from smac.multi_objective.parego import ParEGO  # type: ignore[import-not-found]
from smac.runhistory.dataclasses import TrialInfo, TrialValue  # type: ignore[import-not-found]

from benchmarks.searching.problem import Space
from optimize.search.encoding import is_unordered

_FIRST, _MOST = 8, 1000


class SMACSampler(BaseSampler):
    """SMAC's random forest with expected improvement, on ParEGO's scalarizations of the objectives.

    SMAC knows no constraints: of a trial that breaks one it is told the worst losses so far.

    Args:
        space: Knob -> distribution.
        objectives: How many, all minimized.
        seed: Of everything that is drawn.
    """

    def __init__(self, space: Space, objectives: int, seed: int) -> None:
        self._space, self._knobs = space, ConfigurationSpace({n: _knob(n, d) for n, d in space.items()}, seed=seed)
        scenario = Scenario(
            self._knobs, objectives=[f"loss {i}" for i in range(objectives)], deterministic=True, n_trials=_MOST,
            seed=seed, output_directory=Path(mkdtemp()),
        )  # fmt: skip
        self._smac = HyperparameterOptimizationFacade(
            scenario, multi_objective_algorithm=ParEGO(scenario), logging_level=False, overwrite=True,
            initial_design=HyperparameterOptimizationFacade.get_initial_design(scenario, n_configs=_FIRST),
        )  # fmt: skip
        self._asked: Any = None
        self._worst = [-float("inf")] * objectives

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        self._asked = self._asked or self._smac.ask()
        return _value(param_distribution, self._asked.config[param_name])

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        assert values is not None
        self._worst = [max(pair) for pair in zip(self._worst, values, strict=True)]
        is_feasible = all(violation <= 0 for violation in trial.constraints.values())
        info = self._asked or TrialInfo(self._configuration(trial.params), seed=0)
        self._smac.tell(info, TrialValue(cost=list(values) if is_feasible else self._worst), save=False)
        self._asked = None

    def _configuration(self, params: dict[str, Any]) -> Any:
        values = {name: _number(d, params[name]) for name, d in self._space.items()}
        return Configuration(self._knobs, values=values)


def _knob(name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return Categorical(name, list(range(len(distribution.choices))), ordered=not is_unordered(distribution))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = Integer if isinstance(distribution, IntDistribution) else Float
    return kind(name, (distribution.low, distribution.high), log=distribution.log)


def _value(distribution: BaseDistribution, number: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(number)]
    return int(number) if isinstance(distribution, IntDistribution) else float(number)


def _number(distribution: BaseDistribution, value: Any) -> Any:
    return distribution.choices.index(value) if isinstance(distribution, CategoricalDistribution) else value
