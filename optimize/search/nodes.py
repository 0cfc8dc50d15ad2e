"""Nodes of the configuration as distributions of knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution

from optimize.config.instantiate import build
from optimize.config.repetition import refuse_repetition
from optimize.config.schema import Recipe
from optimize.errors import ConfigError, closest
from optimize.search import domain
from optimize.search.knobs import BEAM_SIZE, QUANTIZATION


def distribution_of(knob: str, node: object) -> BaseDistribution:
    """The distribution that a knob's node names, without its condition; a plain list names choices.

    So does `choices` without a `_target_`, and `low` and `high` name a range: of whole numbers where both are, on a
    logarithmic scale with `log`, of powers of two alone with `power_of_two`.

    Raises:
        ConfigError: the node cannot be built, or is something else.
    """
    where = f"search_space.{knob}"
    if isinstance(node, Sequence) and not isinstance(node, str):
        node = {"_target_": "optuna.distributions.CategoricalDistribution", "choices": list(node)}
    if isinstance(node, Mapping) and "choices" in node:
        _check_choices(f"{where}.choices", node["choices"])
    distribution = build(_full(node), where)
    if not isinstance(distribution, BaseDistribution):
        raise ConfigError(f"{where} must be a distribution of optuna.distributions, got {type(distribution).__name__}")
    return distribution


def _check_choices(where: str, choices: object) -> None:
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        raise ConfigError(f"{where} must be a list, got {choices!r}: write [{choices}]")
    refuse_repetition(where, choices)


def _full(node: object) -> object:
    """A node with the `_target_` that its keys call for."""
    if not isinstance(node, Mapping) or "_target_" in node:
        return node
    keys, module = dict(node), "optuna.distributions"
    if "choices" in keys:
        return {"_target_": f"{module}.CategoricalDistribution", **keys}
    if not {"low", "high"} <= keys.keys():
        return node
    if keys.pop("power_of_two", False):
        return {"_target_": "optimize.search.distributions.powers_of_two", **keys}
    whole = all(isinstance(keys[end], int) for end in ("low", "high"))
    return {"_target_": f"{module}.{'Int' if whole else 'Float'}Distribution", **keys}


def check_quantization(distributions: Mapping[str, BaseDistribution], recipes: Mapping[str, Recipe]) -> None:
    """Refuse a choice of quantization that is no recipe."""
    quantization = distributions.get(QUANTIZATION)
    if quantization is None:
        return
    if not isinstance(quantization, CategoricalDistribution):
        raise ConfigError("search_space.quantization must be a CategoricalDistribution over recipe names")
    for name in quantization.choices:
        if name not in recipes:
            raise ConfigError(
                f"search_space.quantization: unknown quantization {name!r}; {closest(str(name), recipes)}"
                " (recipes stand in conf/quantization/)"
            )


def check_beams(distributions: Mapping[str, BaseDistribution]) -> None:
    """Refuse beams that are no whole numbers from 1."""
    beams = distributions.get(BEAM_SIZE)
    if beams is not None and not all(isinstance(v, int) and v >= 1 for v in domain.values(beams)):
        raise ConfigError(f"search_space.beam_size must hold whole numbers from 1, got {domain.values(beams)}")
