"""A grid measured to its end, over any number of sessions, with the fewest starts of engines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from optimize.outcome import ROLE, Role
from optimize.search.designs import grid_values
from optimize.search.encoding import Canonical, Point
from optimize.search.live_engine import LiveEngine


class ExhaustiveSampler(BaseSampler):
    """A grid for the ask/tell loop: every point once, over any number of sessions.

    Optuna's own counts points by their place in a seeded order, which a resumed study draws anew; here a point is known
    by its values. All of the grid will be measured, so the points that the live engine can serve come first: that makes
    for the fewest starts. The loop looks at `is_exhausted` instead of being stopped from within.

    Args:
        space: Knob -> distribution.
        seed: Of the order in which points are tried, and of knobs that are not in the space.
        canonical: Puts knobs that have no effect to one value, and a forbidden point to another one: a point that it
            changes is left out.

    Attributes:
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], seed: int | None = None, canonical: Canonical = dict
    ) -> None:  # fmt: skip
        self._space = dict(sorted(space.items()))
        values = list(itertools.product(*map(grid_values, self._space.values())))
        np.random.RandomState(seed or 0).shuffle(values)
        points: list[Point] = [dict(zip(self._space, point, strict=True)) for point in values]
        self._points = [point for point in points if canonical(point) == point]
        self._random = RandomSampler(seed=seed)
        self.live: LiveEngine | None = None

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: distribution for name, distribution in self._space.items() if not distribution.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        candidates = self._untried(study) or self._points
        served = (p for p in candidates if self.live is not None and self.live.serves(p))
        point = next(served, candidates[0])
        return {name: point[name] for name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A knob that is not in the grid is drawn at random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def is_exhausted(self, study: optuna.Study) -> bool:
        """Whether every point was tried, or is under way."""
        return not self._untried(study)

    def _untried(self, study: optuna.Study) -> list[Point]:
        """Points of no trial but the baseline, in the order in which they come."""
        trials = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get(ROLE) != Role.BASELINE]
        tried = {_key((t.params or t.system_attrs.get("fixed_params", {})).items()) for t in trials}
        return [point for point in self._points if _key(point.items()) not in tried]


def _key(settings: Iterable[tuple[str, Any]]) -> frozenset[tuple[str, Any]]:
    return frozenset(settings)


def grid(
    space: Mapping[str, BaseDistribution], seed: int | None = None, canonical: Canonical = dict
) -> ExhaustiveSampler:  # fmt: skip
    """Every permitted combination of choices and of a few steps of each range, each engine once, in a seeded order."""
    return ExhaustiveSampler(space, seed, canonical)
