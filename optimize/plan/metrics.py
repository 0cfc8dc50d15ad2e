"""The objectives and the further metrics of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from objectives import Objective
from objectives.accuracy import Accuracy
from optimize.config.instantiate import build
from optimize.config.schema import StudyConfig
from optimize.decision.constraints import Limit
from optimize.errors import ConfigError
from optimize.harness.process import check_harness


def metrics_of(config: StudyConfig) -> tuple[dict[str, Objective], dict[str, Objective]]:
    """(the objectives by name, all metrics by name, the objectives first).

    Raises:
        ConfigError: a node that cannot be built, is no objective, or needs the harness where it is not installed.
    """
    objectives = {name: _objective(name, node, "objectives") for name, node in config.objectives.items()}
    others = {name: _objective(name, node, "metrics") for name, node in config.metrics.items()}
    return objectives, {**objectives, **{name: m for name, m in others.items() if name not in objectives}}


def _objective(name: str, node: object, where: str) -> Objective:
    objective = build(node, f"{where}.{name}")
    if not isinstance(objective, Objective):
        raise ConfigError(f"{where}.{name} must be an objectives.Objective, got {type(objective).__name__}")
    if isinstance(objective, Accuracy):
        check_harness(f"{where}.{name}")
    return objective


def check_random_weights(
    model: str, objectives: Mapping[str, Objective], metrics: Mapping[str, Objective], limits: Sequence[Limit]
) -> None:
    """Refuse what scores the answers of a model whose weights are random.

    Raises:
        ConfigError: an objective or a constraint does.
    """
    why = f"model {model} has random weights, and its answers mean nothing"
    for name, objective in objectives.items():
        if objective.same_sample:
            others = ",".join(n for n, o in objectives.items() if not o.same_sample)
            raise ConfigError(f"objectives.{name}: {why}: name the other objectives, objectives=[{others}]")
    for limit in limits:
        if metrics[limit.metric].same_sample:
            raise ConfigError(f"constraints.{limit.metric}: {why}: remove it, constraints.{limit.metric}=null")
