"""Samplers this project adds to Optuna's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import GPSampler, GridSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optimize.designs import filling, grid_values
from optimize.ledger import BASELINE, ROLE
from optimize.pareto import non_dominated

LOG_SCALE_ATTR = "log_scale"
"""Study attribute: one bool per objective, whether its logarithm is what matters."""
_TINY = 1e-9
_LIVE_SAMPLES = 512
_DESIGNS = 3
_MODELLED = 160
Array = np.ndarray[Any, np.dtype[np.float64]]
Settle = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LiveEngine:
    """The engine that is running now, as far as a sampler needs to know it.

    Attributes:
        knobs: Its engine knobs; a trial that shares them needs no start.
        start_s: Seconds that starting another engine takes.
        trial_s: Seconds that a trial takes beside that.
    """

    knobs: Mapping[str, Any]
    start_s: float
    trial_s: float

    def serves(self, params: Mapping[str, Any]) -> bool:
        return all(params.get(name) == value for name, value in self.knobs.items())


@runtime_checkable
class EngineAware(Protocol):
    """A sampler that weighs by itself whether the live engine is worth staying on."""

    live: LiveEngine | None


class LogScaleGPSampler(GPSampler):
    """Gaussian-process search that sees the logarithm of objectives whose ratios matter, and what a trial costs.

    Throughput, latency and memory span orders of magnitude; on their raw scale the slowest few points drown all
    differences among the good ones. Stored values stay as measured: only the copies handed to the model are scaled.

    While an engine is live, settings that it can serve compete with all others by expected improvement per second
    (Snoek, Larochelle and Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", section 3.2).

    The first points fill the space: of some Latin hypercubes the one whose nearest neighbours are farthest apart
    (Morris and Mitchell, "Exploratory designs for computational experiments", 1995). What could not be measured
    violates a constraint; the models of the objectives take it for average, for its imputed values are not theirs to
    learn. Trials under way count by what the models expect of them (Optuna's own, for constrained objectives too). A
    point that was tried, or is being tried, is not tried again while there are others. Knobs that do not count beside a
    point's other settings are put to one value (`settle`), so that the models see equal engines as equal points.

    Overrides the private `_sample_relative_impl` and `_optimize_acqf` of Optuna 5.0, hence the pin in pyproject.toml.

    Attributes:
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    def __init__(
        self, *, n_startup_trials: int = 8, seed: int | None = None, fill: bool = True, neutral: bool = True,
        fresh: bool = True, ordered: bool = True,
        settle: Settle = dict,
    ) -> None:  # fmt: skip
        super().__init__(n_startup_trials=n_startup_trials, seed=seed, warn_independent_sampling=False)
        self._fill, self._neutral, self._fresh, self._settle = fill, neutral, fresh, settle
        self._ordered = ordered
        self._design: list[dict[str, Any]] = []
        # Optuna's 2048 and 10 take three seconds on two slow cores, for the same points on spaces of this size.
        self._n_preliminary_samples, self._n_local_search = 1024, 4
        self.live: LiveEngine | None = None
        self._ranks = Ranks({})
        self._tried: list[dict[str, Any]] = []

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        known = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
        left = self._n_startup_trials - sum(t.state is TrialState.COMPLETE for t in known)
        if not self._fill or not search_space or left <= 0:
            return self._settle(super().sample_relative(study, trial, search_space))
        return self._filling_point(search_space, left, [_within(search_space, t.params) for t in known])

    def _filling_point(
        self, space: dict[str, BaseDistribution], left: int, tried: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """The next point that fills the space; a resumed study, or another driver, may have tried some of them."""
        point: dict[str, Any] = {}
        for _ in range(_DESIGNS):
            self._design = self._design or filling(space, left, self._rng.rng)
            while self._design:
                point = self._settle(self._design.pop())
                if point not in tried:
                    return point
        return point

    def _sample_relative_impl(
        self,
        study: optuna.Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        import torch  # four seconds that a study without a Gaussian process need not spend

        # The models are tiny: more threads than one only fight over the cores the engine needs.
        torch.set_num_threads(1)
        log_scale = study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(study.directions))
        losses = np.array([-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        modelled = most_telling(completed_trials, losses, self._rng.rng)
        scaled = [log_scaled(trial, log_scale) for trial in modelled]
        if self._neutral:
            scaled = neutral(scaled)
        self._ranks = Ranks(search_space if self._ordered else {})
        # One that another driver is just asking for has not all of its settings yet.
        running = [t for t in running_trials if search_space.keys() <= t.params.keys()]
        self._tried = [_within(search_space, t.params) for t in [*completed_trials, *running]]
        found = super()._sample_relative_impl(
            study, self._ranks.of_trials(scaled), self._ranks.of_trials(running), self._ranks.space(search_space)
        )
        return self._ranks.values(found)

    def _optimize_acqf(self, acqf: Any, best_params: Array | None) -> Array:
        anywhere: Array = super()._optimize_acqf(acqf, best_params)
        if self._fresh:
            anywhere = self._not_tried(acqf, anywhere)
        options = self._on_the_live_engine(acqf)
        if self.live is None or not len(options):
            return anywhere
        log_improvement = acqf.eval_acqf_no_grad(np.vstack([options, anywhere]))
        here = int(np.argmax(log_improvement[:-1]))
        log_cost_ratio = math.log((self.live.start_s + self.live.trial_s) / self.live.trial_s)
        return options[here] if log_improvement[here] > log_improvement[-1] - log_cost_ratio else anywhere

    def _not_tried(self, acqf: Any, found: Array) -> Array:
        """The point found, or where it was tried, the best of many others; the same if all of them were."""
        if self._params_at(acqf, found) not in self._tried:
            return found
        sampled = acqf.search_space.sample_normalized_params(_LIVE_SAMPLES, rng=self._rng.rng)
        others = [row for row in sampled if self._params_at(acqf, row) not in self._tried]
        if not others:
            return found
        options = np.vstack(others)
        best: Array = options[int(np.argmax(acqf.eval_acqf_no_grad(options)))]
        return best

    def _on_the_live_engine(self, acqf: Any) -> Array:
        """Normalized settings, shape (n, dim), that the live engine could serve and that were not tried yet."""
        nothing = np.empty((0, acqf.search_space.dim))
        if self.live is None:
            return nothing
        sampled = acqf.search_space.sample_normalized_params(_LIVE_SAMPLES, rng=self._rng.rng)
        params = []
        for row in sampled:
            anywhere = self._params_at(acqf, row)
            params.append(self._settle({**anywhere, **_within(anywhere, self.live.knobs)}))
        fresh = [p for i, p in enumerate(params) if p not in self._tried and p not in params[:i]]
        if not fresh:
            return nothing
        ranked = [self._ranks.ranks(p) for p in fresh]
        normalized: Array = acqf.search_space.get_normalized_params([None] * len(ranked), ranked)
        return normalized

    def _params_at(self, acqf: Any, row: Array) -> dict[str, Any]:
        """The point that a row of normalized parameters stands for."""
        return self._settle(self._ranks.values(acqf.search_space.get_unnormalized_param(row)))


class Ranks:
    """Choices that are numbers, as their places in order: a model that knows no order must learn 8 apart from 4.

    Args:
        space: Knob -> distribution.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._choices = {
            name: sorted(d.choices)  # type: ignore[type-var]
            for name, d in space.items()
            if isinstance(d, CategoricalDistribution) and all(type(c) in (int, float) for c in d.choices)
        }

    def space(self, space: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
        ranked = {name: IntDistribution(0, len(choices) - 1) for name, choices in self._choices.items()}
        return {**space, **ranked}

    def ranks(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Numbers replaced by places."""
        places = {name: choices.index(params[name]) for name, choices in self._choices.items() if name in params}
        return {**params, **places}

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Places replaced by numbers."""
        return {**params, **{name: choices[params[name]] for name, choices in self._choices.items() if name in params}}

    def of_trials(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Copies with places for numbers."""
        found = [copy.copy(trial) for trial in trials]
        for trial in found:
            trial.params = self.ranks(trial.params)
        return found


def _within(space: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name in space}


def neutral(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Copies in which what could not be measured has the mean of what was, in place of imputed values."""
    measured = [t.values for t in trials if not t.user_attrs.get("imputed")]
    if not measured:
        return list(trials)
    mean = [float(v) for v in np.mean(measured, axis=0)]
    return [_with_values(t, mean) if t.user_attrs.get("imputed") else t for t in trials]


def most_telling(trials: Sequence[FrozenTrial], signs: Array, rng: np.random.RandomState) -> list[FrozenTrial]:
    """As many trials as a model can take within seconds: the feasible front, the latest, and any others, in order.

    Args:
        trials: All completed trials.
        signs: Shape (objectives,): 1 where an objective is minimized, -1 where it is maximized.
        rng: Draws the others.
    """
    if len(trials) <= _MODELLED:
        return list(trials)
    feasible = [i for i, t in enumerate(trials) if all(v <= 0 for v in t.constraints.values())]
    losses = np.array([signs * trials[i].values for i in feasible]).reshape(len(feasible), len(signs))
    best = [i for i, on_it in zip(feasible, non_dominated(losses), strict=True) if on_it][-_MODELLED // 2 :]
    kept = {*best, *range(len(trials) - _MODELLED // 4, len(trials))}
    others = [i for i in range(len(trials)) if i not in kept]
    kept |= {others[i] for i in rng.choice(len(others), size=_MODELLED - len(kept), replace=False)}
    return [trials[i] for i in sorted(kept)]


def _with_values(trial: FrozenTrial, values: Sequence[float]) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.values = list(values)
    return changed


def log_scaled(trial: FrozenTrial, log_scale: list[bool]) -> FrozenTrial:
    """A copy of a completed trial whose marked values are replaced by their logarithms."""
    values = zip(trial.values, log_scale, strict=True)
    return _with_values(trial, [math.log(max(value, _TINY)) if use_log else value for value, use_log in values])


class ExhaustiveSampler(GridSampler):
    """A grid for the ask/tell loop: every point once, over any number of sessions.

    Optuna's own counts points by their place in a seeded order, which a resumed study draws anew; here a point is known
    by its values. All of the grid will be measured, so what the live engine can serve comes first: that makes for the
    fewest starts. The loop looks at `is_exhausted` instead of being stopped from within.

    Attributes:
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    live: LiveEngine | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if "fixed_params" in trial.system_attrs:
            return
        unvisited = self._get_unvisited_grid_ids(study) or list(range(len(self._all_grids)))
        here = [i for i in unvisited if self.live is not None and self.live.serves(self._point(i))]
        study._storage.set_trial_system_attr(trial._trial_id, "search_space", self._search_space)
        study._storage.set_trial_system_attr(trial._trial_id, "grid_id", (here or unvisited)[0])

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nothing: Optuna's own calls `study.stop()`, which exists only under `study.optimize`."""

    def _get_unvisited_grid_ids(self, study: optuna.Study) -> list[int]:
        trials = study.get_trials(deepcopy=False)
        visited = [
            t.params or t.system_attrs.get("fixed_params", {}) for t in trials if t.user_attrs.get(ROLE) != BASELINE
        ]
        return [i for i in range(len(self._all_grids)) if self._point(i) not in visited]

    def _point(self, grid_id: int) -> dict[str, Any]:
        return dict(zip(self._param_names, self._all_grids[grid_id], strict=True))


def grid(space: Mapping[str, BaseDistribution], seed: int | None = None) -> ExhaustiveSampler:
    """Every combination of choices and of a few steps of each range, in a seeded order."""
    return ExhaustiveSampler({name: grid_values(distribution) for name, distribution in space.items()}, seed=seed)
