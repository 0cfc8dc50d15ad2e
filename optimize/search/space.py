"""The search space: knobs from YAML to Optuna's distributions, and from sampled values to a TrialConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
)

from optimize.config.schema import Model, Recipe
from optimize.config.structured import as_text
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.errors import ConfigError, closest
from optimize.redaction import redact_all, reveal
from optimize.search import defaults, domain, variables
from optimize.search.conditions import WHEN, Conditions, check_conditions, conditions_of, counts, without
from optimize.search.knobs import (
    BEAM_SIZE,
    QUANTIZATION,
    REQUEST_FIELDS,
    SEQUENCES_AT_ONCE,
    flag_of,
    is_flag,
    is_request_knob,
    names_of,
    part_of,
)
from optimize.search.nodes import check_beams, check_quantization, distribution_of
from optimize.search.parts import check_parts, reported, with_parts
from optimize.search.permitted import Permitted
from optimize.search.rules import FORBID, Rule, rules_of

_BASELINE_RECIPE = "published"
_FIXED_DEFAULTS: dict[str, Any] = {QUANTIZATION: _BASELINE_RECIPE, BEAM_SIZE: 1, "workers": 1, "temperature": 0.0}
_VLLM_MAX_LOGPROBS, _VLLM_CHOICE = 20, "auto"
Params = dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """All configurations a study may try.

    Attributes:
        distributions: Knob -> Optuna distribution.
        model: The model served.
        recipes: Quantization name -> how its checkpoint is made.
        fixed_recipe: The recipe where quantization is no knob.
        baseline_overrides: Knob -> its value in the baseline, instead of vLLM's own default or where that is unknown.
        conditions: Knob -> {other knob: values} with which it has an effect; with others it stays at vLLM's default.
        rules: What forbids combinations.
    """

    distributions: Mapping[str, BaseDistribution]
    model: Model
    recipes: Mapping[str, Recipe]
    fixed_recipe: Recipe
    baseline_overrides: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=dict)
    rules: Sequence[Rule] = ()

    @cached_property
    def _permitted(self) -> Permitted:
        return Permitted(self.rules, self.distributions, self.conditions, self.model.flags)

    def counts(self, knob: str, params: Mapping[str, Any]) -> bool:
        """Whether a knob has any effect beside these settings, from which knobs without a choice may be missing."""
        return counts(self.conditions, knob, params)

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Whether no rule forbids these settings."""
        return self._permitted.allows(params)

    def canonical(self, params: Mapping[str, Any]) -> Params:
        """The same point with every knob that has no effect at one fixed value: equal engines become equal points.

        A point that rules forbid becomes a permitted one that differs little from it.
        """
        return self._without_idle(self._permitted.nearest(params))

    def _without_idle(self, params: Mapping[str, Any]) -> Params:
        """The same point with every knob that has no effect at one fixed value."""
        return {k: v if self.counts(k, params) else domain.values(self.distributions[k])[0] for k, v in params.items()}

    def saturation(self, users: int) -> dict[str, float]:
        """Knob -> a value beyond which more of it changes little: an engine never has more sequences at once than the
        beams of all users.
        """
        return {k: float(users * self.widest_beam()) for k in self.distributions if flag_of(k) == SEQUENCES_AT_ONCE}

    @property
    def engine_flags(self) -> list[str]:
        """The vLLM flags behind the engine knobs, quantization left out, each once."""
        return list(dict.fromkeys(flag_of(knob) for knob in self.distributions if is_flag(knob)))

    @property
    def variables(self) -> list[str]:
        """The environment variables among the knobs."""
        return variables.names(self.distributions)

    @property
    def request_knobs(self) -> list[str]:
        return [knob for knob in self.distributions if is_request_knob(knob)]

    def recipes_needed(self) -> list[Recipe]:
        """Every recipe a trial may ask for, and the baseline's."""
        quantization = self.distributions.get(QUANTIZATION)
        if not isinstance(quantization, CategoricalDistribution):
            return [self.fixed_recipe]
        names = dict.fromkeys([_BASELINE_RECIPE, *map(str, quantization.choices)])
        return [self.recipes[name] for name in names]

    def resolve(self, params: Mapping[str, Any], checkpoints: Mapping[str, str]) -> TrialConfig:
        """The configuration of one point.

        Args:
            params: Knob -> value.
            checkpoints: Recipe name -> checkpoint folder or id.
        """
        recipe = self.recipes[str(params[QUANTIZATION])] if QUANTIZATION in params else self.fixed_recipe
        return self._with(recipe, {k: v for k, v in params.items() if self.counts(k, params)}, checkpoints)

    def vllm_defaults(self, checkpoints: Mapping[str, str], stored: Mapping[str, Any] | None = None) -> TrialConfig:
        """vLLM's defaults: no knob set, greedy, the checkpoint as published (or the fixed recipe).

        Args:
            checkpoints: Recipe name -> checkpoint folder or id.
            stored: Knob -> value of a study's baseline. Its recipe is kept (`fp16` in studies of earlier versions), and
                so is what the user has set by `baseline`.
        """
        params = stored or {}
        name = str(params.get(QUANTIZATION, _BASELINE_RECIPE))
        recipe = self.recipes[name] if QUANTIZATION in self.distributions else self.fixed_recipe
        return self._with(recipe, {k: v for k, v in params.items() if k in self.baseline_overrides}, checkpoints)

    def _with(self, recipe: Recipe, params: Mapping[str, Any], checkpoints: Mapping[str, str]) -> TrialConfig:
        """A recipe with these knobs set."""
        flags = {k: reveal(v) for k, v in params.items() if is_flag(k)}
        config = self._config(recipe, flags, self._request(params), checkpoints)
        return replace(config, engine=replace(config.engine, env=variables.environment(params)))

    def _config(
        self, recipe: Recipe, knobs: Mapping[str, Any], request: RequestConfig, checkpoints: Mapping[str, str]
    ) -> TrialConfig:
        fixed = {**_dtype(recipe), **self.model.flags, **recipe.flags, **self._beam_flags()}
        flags = tuple(sorted(with_parts(fixed, knobs).items()))
        return TrialConfig(EngineConfig(checkpoints[recipe.name], recipe.name, flags), request)

    def plain_engines(self, checkpoints: Mapping[str, str]) -> dict[str, EngineConfig]:
        """Recipe name -> its engine with no engine knob set, for those of the needed recipes that have a checkpoint."""
        return {
            recipe.name: self._config(recipe, {}, RequestConfig(), checkpoints).engine
            for recipe in self.recipes_needed()
            if recipe.name in checkpoints
        }

    def _request(self, params: Mapping[str, Any]) -> RequestConfig:
        fields = tuple((k, v) for k, v in sorted(params.items()) if k in REQUEST_FIELDS)
        return RequestConfig(int(params.get(BEAM_SIZE, 1)), fields)

    def _beam_flags(self) -> dict[str, Any]:
        """vLLM must be allowed twice as many log-probabilities as there are beams."""
        logprobs = 2 * self.widest_beam()
        return {"max_logprobs": logprobs} if logprobs > _VLLM_MAX_LOGPROBS else {}

    def widest_beam(self) -> int:
        """Most beams of a request."""
        beams = self.distributions.get(BEAM_SIZE)
        return int(max(domain.values(beams))) if beams is not None else 1

    def baseline_params(self, effective: Mapping[str, Any]) -> tuple[Params, list[str]]:
        """The point that is vLLM's defaults, and the knobs where no space could contain them.

        Args:
            effective: vLLM flag -> value, as a running engine without flags reports it.

        Returns:
            (params, knobs whose default lies outside, or is not reported, and was replaced by another value). The
            params are a point of `including(params)`: an engine's own defaults may lie beyond a range.

        Raises:
            ConfigError: nobody knows the default of a field of requests, and `baseline` does not give it.
        """
        params: Params = {}
        outside: list[str] = []
        for knob, distribution in self.distributions.items():
            value = self._default(knob, distribution, effective)
            wide = domain.widened(distribution, value) if self._is_vllms(knob) else distribution
            params[knob] = domain.nearest(wide, value)
            if params[knob] != value:
                outside.append(knob)
        return self._without_idle(params), [knob for knob in outside if self.counts(knob, params)]

    def _is_vllms(self, knob: str) -> bool:
        """Whether it is vLLM itself that decides a knob's value in the baseline."""
        return knob != QUANTIZATION and not is_request_knob(knob) and knob not in self.baseline_overrides

    def including(self, params: Mapping[str, Any]) -> SearchSpace:
        """The space with a point in it; the same space where it is there already."""
        wide = {k: domain.widened(d, params[k]) if k in params else d for k, d in self.distributions.items()}
        return self if wide == dict(self.distributions) else replace(self, distributions=wide)

    def _default(self, knob: str, distribution: BaseDistribution, effective: Mapping[str, Any]) -> Any:
        """The baseline's value of a knob, as the user or vLLM has it; None where vLLM does not report one."""
        part, names = part_of(knob), names_of(knob)
        for name in names:
            if name in self.baseline_overrides:
                return as_text(self.baseline_overrides[name])
        default = defaults.first_of(names, [effective, _FIXED_DEFAULTS])
        if part:
            default = reported(part, effective.get(flag_of(knob)))
        if variables.is_variable(knob):
            default = variables.choice_of(domain.values(distribution), default)
        if default is None and is_request_knob(knob) and None not in domain.values(distribution):
            raise ConfigError(
                f"no default of {knob!r} is known: give the baseline's value, e.g. '+baseline.{knob}=...'"
            )
        return defaults.default_among(distribution, default)

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether every knob's value lies within its range or among its choices, and no rule forbids them together."""
        return all(domain.contains(d, params[knob]) for knob, d in self.distributions.items()) and self.allows(params)

    def fingerprint(self) -> dict[str, str]:
        """Knob -> its distribution as text; two studies with equal fingerprints can share trials."""
        texts = {name: distribution_to_json(d) for name, d in sorted(self.distributions.items())}
        texts |= {FORBID: json.dumps([rule.text for rule in self.rules])} if self.rules else {}
        return texts | {f"{k}.{WHEN}": json.dumps(c, default=str) for k, c in sorted(self.conditions.items())}


def make_space(
    nodes: Mapping[str, Any], model: Model, recipes: Mapping[str, Recipe], fixed: Recipe, baseline: Mapping[str, Any]
) -> SearchSpace:
    """Build and check the search space.

    Args:
        nodes: Knob -> `_target_` node of a distribution, or a plain list of choices; a node may hold `when`, {other
            knob: values with which this one has an effect}. `forbid` is no knob but a list of rules.
        model, recipes, fixed, baseline: As the attributes of SearchSpace.

    Raises:
        ConfigError: bad range, unknown quantization, two knobs for one flag, impossible condition or rule.
    """
    forbid, nodes = nodes.get(FORBID), {knob: node for knob, node in nodes.items() if knob != FORBID}
    named = {knob: node if node is None else domain.by_name(knob, node) for knob, node in nodes.items()}
    nodes = {knob: node for knob, node in named.items() if node is not None}
    if not nodes:
        raise ConfigError("search_space is empty: name at least one knob, e.g. space=serving")
    conditions = conditions_of(named)
    bare = {k: without(node) for k, node in nodes.items()}
    distributions = {knob: distribution_of(knob, node) for knob, node in bare.items()}
    check_conditions(conditions, distributions)
    check_parts(distributions, model.flags)
    for knob in baseline:
        if knob not in distributions:
            raise ConfigError(f"baseline.{knob} is no knob of the search space; {closest(knob, distributions)}")
    check_quantization(distributions, recipes)
    check_beams(distributions)
    names = [*(name for knob in distributions for name in names_of(knob)), *model.flags]
    rules = rules_of(forbid, names, [knob for knob, node in named.items() if node is None])
    space = SearchSpace(distributions, model, recipes, fixed, redact_all(baseline), conditions, rules)
    space.allows({})  # refuses rules that leave nothing
    return space


def _dtype(recipe: Recipe) -> dict[str, str]:
    """The flag for a recipe's data type; none for vLLM's own choice."""
    return {} if recipe.dtype == _VLLM_CHOICE else {"dtype": recipe.dtype}
