"""Keeps a sampler that knows no rules to the points that they permit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from optimize.search.encoding import Canonical, Point, Space
from optimize.search.live_engine import EngineReuseSampler, LiveEngine

_TRIES = 100


class PermittedSampler(BaseSampler):
    """A sampler that is asked again where it proposes what is forbidden; after a hundred times the point is moved.

    Args:
        sampler: Proposes points.
        space: Knob -> distribution.
        allows: Whether a point is permitted.
        canonical: Moves a forbidden point to a permitted one.
    """

    def __init__(
        self, sampler: EngineReuseSampler, space: Space, allows: Callable[[Mapping[str, Any]], bool],
        canonical: Canonical,
    ) -> None:  # fmt: skip
        self._sampler, self._allows, self._canonical = sampler, allows, canonical
        self._space = {name: distribution for name, distribution in space.items() if not distribution.single()}

    @property
    def live(self) -> LiveEngine | None:
        """The live engine; None where nothing runs or reuse is switched off."""
        return self._sampler.live

    @live.setter
    def live(self, engine: LiveEngine | None) -> None:
        self._sampler.live = engine

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All knobs: whether a point is permitted is a question of all of its settings."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        space = self._sampler.infer_relative_search_space(study, trial)
        point: Point = {}
        for _ in range(_TRIES):
            point = self._sampler.sample_relative(study, trial, space)
            others = {name: d for name, d in search_space.items() if name not in point}
            point |= {n: self._sampler.sample_independent(study, trial, n, d) for n, d in others.items()}
            if self._allows(point):
                return point
        return self._canonical(point)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def is_exhausted(self, study: optuna.Study) -> bool:
        """Whether the sampler has nothing left to try."""
        return self._sampler.is_exhausted(study)
