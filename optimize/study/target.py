"""The one configuration that a verb works on: a row of a study, or what `+at.*` gives by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives import Estimate
from optimize.config.schema import StudyConfig
from optimize.engine.base import TrialConfig
from optimize.errors import ConfigError, OptimizeError, closest, setting_names
from optimize.formatting import shown_value
from optimize.plan import Plan, make_plan
from optimize.quantize.calibration import calibration_of
from optimize.quantize.checkpoints import make_checkpoints
from optimize.search.knobs import BEAM_SIZE, QUANTIZATION
from optimize.study.capacity import figures_of_engines
from optimize.study.rows import runnable_row

Say = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """A configuration, and its figures.

    Attributes:
        title: Its origin, e.g. "recommended row of study chat (trial 17)".
        params: Knob -> value; empty for vLLM's defaults.
        config: Its engine and request settings.
        estimates: Metric -> figure of the study, by `figures_of_engines`; empty for a configuration of `+at`.
    """

    title: str
    params: Mapping[str, Any]
    config: TrialConfig
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    def in_words(self) -> str:
        return ", ".join(f"{k} = {shown_value(v)}" for k, v in self.params.items()) or "vLLM's defaults"


def only_point(config: StudyConfig, name: str) -> StudyConfig:
    """The study under another name, its search space reduced to the point `config.at`, so that the point is checked."""
    return dataclasses.replace(
        config,
        study=dataclasses.replace(config.study, name=name),
        search_space={knob: [value] for knob, value in {BEAM_SIZE: 1, **config.at}.items()},
        baseline={},
        constraints={},
    )


def plan_of_point(config: StudyConfig, name: str) -> Plan:
    """The plan of the point `config.at`, under another name.

    Raises:
        ConfigError: the configuration is invalid; what is wrong with the point is said of `at`.
    """
    with setting_names({f"search_space.{knob}": f"at.{knob}" for knob in config.at}):
        return make_plan(only_point(config, name))


def choose(config: StudyConfig, name: str, say: Say) -> tuple[Plan, Target]:
    """Select the configuration that `+at` or `row` names, and make its checkpoint if the cache has none.

    Args:
        config: The typed configuration.
        name: Name of the plan, which keeps the files of the command apart from those of the study.
        say: Receives messages about checkpoints that are being made.

    Raises:
        ConfigError: no such study, no such row, a row of another model, or an invalid configuration.
        OptimizeError: there is no checkpoint.
    """
    if config.at:
        plan = plan_of_point(config, name)
        return plan, Target("configuration of +at", dict(config.at), _resolve(plan, config.at, False, say))
    candidate = runnable_row(config).candidate
    title = f"{config.row} row of study {config.study.name} (trial {candidate.number})"
    plan = make_plan(dataclasses.replace(config, study=dataclasses.replace(config.study, name=name)))
    config_of = _resolve(plan, candidate.params, candidate.baseline, say)
    params = {} if candidate.baseline else dict(candidate.params)
    return plan, Target(title, params, config_of, figures_of_engines(candidate))


def _resolve(plan: Plan, params: Mapping[str, Any], baseline: bool, say: Say) -> TrialConfig:
    space = plan.space
    recipe = space.fixed_recipe
    if QUANTIZATION in params:
        name = str(params[QUANTIZATION])
        if name not in space.recipes:
            raise ConfigError(f"unknown quantization {name!r}; {closest(name, space.recipes)}")
        recipe = space.recipes[name]
    checkpoints, broken = make_checkpoints(
        plan.config.model, [recipe], Path(plan.config.cache_dir), say, calibration_of(plan.workload)
    )
    if recipe.name in broken:
        raise OptimizeError(f"there is no checkpoint {recipe.name}: {broken[recipe.name]}")
    return space.vllm_defaults(checkpoints, params) if baseline else space.resolve(params, checkpoints)
