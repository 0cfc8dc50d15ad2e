"""The search by models of what trials say, and how a sampler learns of the live engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optimize.pareto import non_dominated
from optimize.search.acquisition import log_feasibility, log_improvement, reference_point
from optimize.search.designs import filling, neighbours, one_choice_apart, outwards_in, scattered
from optimize.search.encoding import Array, Encoding, Point, every_point
from optimize.search.gaussian_process import GaussianProcess

LOG_SCALE_ATTR = "log_scale"
"""Study attribute: one bool per objective, whether its logarithm is what matters."""
GIVEN_POINTS_ATTR = "given_points"
"""Study attribute: how many points of earlier studies it begins with."""
_TINY = 1e-9
_DESIGNS = 3
_MOST_CHOICES = 12
_OPTIONS = 2000
_NEAR = 40
_MODELLED = 160
_COMFORTABLE = -0.5
"""A violation so far below zero that more makes no difference."""
_LEAST_VIOLATION = -0.99
"""A hundredth of a limit: nothing has a logarithm, and less makes no difference."""
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


class LogScaleGPSampler(BaseSampler):
    """Search by models of the objectives, on logarithms where ratios matter, of constraints, and of what trials cost.

    The first points are those that differ from the first trial, vLLM's defaults, in one choice: each recipe, each flag
    is seen once where it most likely runs; if that makes few or very many points, they fill the space instead (Morris
    and Mitchell 1995, "Exploratory designs for computational experiments"). A study that begins with points of earlier
    ones does without: those have seen what does not run or is of no use. An ordered knob that was measured at one value
    only, because elsewhere it could not run, is soon shown at another where that most likely can.

    All other trials are the point with the highest expected gain of hypervolume, times the probability that it keeps
    the constraints, per second: while an engine is live, settings that it can serve save a start (Snoek, Larochelle and
    Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", section 3.2).

    Of a trial that gave no measurement only what it broke is known; its values are not learned from. Trials under way
    count by what the models expect of them. A point that was tried, or is being tried, is not tried again while there
    are others. Knobs that do not count beside a point's other settings are put to one value (`settle`), so that the
    models see equal engines as equal points.

    Args:
        n_startup_trials: Trials to complete before the models choose.
        seed: Of everything that is drawn.
        settle: Puts knobs that do not count to one value.
        enough: Knob -> a value beyond which more of it changes little, where that is known: how many sequences an
            engine may serve at once, beyond those there are.

    Attributes:
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    def __init__(
        self, *, n_startup_trials: int = 5, seed: int | None = None, settle: Settle = dict,
        enough: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self._n_startup_trials, self._settle, self._enough = n_startup_trials, settle, enough or {}
        self._random, self._rng = RandomSampler(seed=seed), np.random.RandomState(seed)
        self._space = IntersectionSearchSpace()
        self._design: list[Point] = []
        self._fits: dict[str, Array] = {}
        self.live: LiveEngine | None = None

    def reseed_rng(self) -> None:
        self._rng.seed()
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: d for name, d in self._space.calculate(study).items() if not d.single()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        running = self._under_way(study, search_space)
        tried = [_within(search_space, t.params) for t in [*completed, *running]]
        begun = study.user_attrs.get(GIVEN_POINTS_ATTR, 0) >= self._n_startup_trials
        first = self._first_point(search_space, completed, tried, begun)
        if first is not None:
            return first
        options = self._options(search_space, completed, tried)
        if not options:
            return tried[int(self._rng.randint(len(tried)))]
        seconds = np.ones(len(options))
        if self.live is not None:
            start_s = np.array([0.0 if self.live.serves(p) else self.live.start_s for p in options])
            seconds = start_s + self.live.trial_s
        worth = self._acquisition(study, search_space, completed, running, options, seconds)
        return options[int(np.argmax(worth))]

    def _under_way(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
        """But for what another driver is just asking for, which has not all of its settings yet."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [t for t in running if space.keys() <= t.params.keys()]

    def _first_point(
        self, space: Mapping[str, BaseDistribution], completed: Sequence[FrozenTrial], tried: Sequence[Point],
        begun: bool,
    ) -> Point | None:  # fmt: skip
        """The next point that is chosen without a model; a resumed study, or another driver, may have tried some."""
        single = one_choice_apart(space, tried[0]) if tried and not begun else []
        if len(single) > _MOST_CHOICES:
            single = []
        for point in map(self._settle, single):
            if point not in tried:
                return point
        left = self._n_startup_trials - len(completed)
        if left <= 0:
            return self._unseen_number(space, completed, tried) if -left >= self._n_startup_trials // 2 else None
        point = {}
        for _ in range(_DESIGNS):
            self._design = self._design or filling(space, left, self._rng)
            while self._design:
                point = self._settle(self._design.pop())
                if point not in tried:
                    return point
        return point

    def _unseen_number(
        self, space: Mapping[str, BaseDistribution], completed: Sequence[FrozenTrial], tried: Sequence[Point]
    ) -> Point | None:
        """Where an ordered knob was measured at one value only: another one, beside the settings with most room for it.

        The far end of its range first, and if that cannot run, half of the way, and so on. What could not run beside
        settings that were measured is left to the models.
        """
        measured = [t for t in completed if not t.user_attrs.get("imputed")]
        if not measured:
            return None
        roomy = min(measured, key=lambda t: sum(map(_ratio_to_limit, t.constraints.values())))
        base = _within(space, roomy.params)
        for name in space:
            if len({t.params[name] for t in measured}) == 1:
                known = {_key(p) for p in tried}
                for value in outwards_in(space[name], base[name]):
                    # One chance each, or which trial happens to have most room would begin it all anew.
                    beside = (self._settle({**_within(space, t.params), name: value}) for t in measured)
                    if known.isdisjoint(map(_key, beside)):
                        return self._settle({**base, name: value})
        return None

    def _options(
        self, space: Mapping[str, BaseDistribution], completed: Sequence[FrozenTrial], tried: Sequence[Point]
    ) -> list[Point]:
        """Points to choose from that were not tried: all there are, or many; those of the live engine among them."""
        found = every_point(space, _OPTIONS)
        if found is None:
            near = [_within(space, t.params) for t in completed[-_NEAR:] if not t.user_attrs.get("imputed")]
            found = [*scattered(space, _OPTIONS // 2, self._rng), *neighbours(space, near, self._rng)]
            if self.live is not None:
                found += [{**p, **_within(space, self.live.knobs)} for p in found[: _OPTIONS // 4]]
        known = {_key(p) for p in tried}
        fresh = {_key(p): p for p in map(self._settle, found)}
        return [p for key, p in fresh.items() if key not in known]

    def _acquisition(
        self, study: optuna.Study, space: Mapping[str, BaseDistribution], completed: Sequence[FrozenTrial],
        running: Sequence[FrozenTrial], options: Sequence[Point], seconds: Array,
    ) -> Array:  # fmt: skip
        """Logarithm of what a second of trying each point is expected to be worth, times the probability that it is
        allowed."""
        signs = np.array([-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        known = subsample(completed, signs, self._rng)
        measured = [t for t in known if not t.user_attrs.get("imputed")]
        encoding = Encoding(space, self._enough)
        rows, asked, under_way = (
            encoding.rows(points) for points in ([t.params for t in measured], options, [t.params for t in running])
        )
        feasibility = log_feasibility(self._constraints(encoding, known), asked)
        favour: Array = feasibility - np.log(seconds)
        if not measured:
            return favour
        log_scale = study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(signs))
        losses = np.array([log_scaled(t.values, log_scale) for t in measured]) * signs
        models = [self._fit(f"objective {i}", encoding, rows, column) for i, column in enumerate(losses.T)]
        if running:
            for model in models:
                model.fantasize(under_way)
        feasible = np.array([is_feasible(t) for t in measured])
        if not feasible.any():
            return favour
        # By the models, not as read: of many readings the best are the luckiest.
        front = np.column_stack([model.predict(np.vstack([rows[feasible], under_way]))[0] for model in models])
        likely = np.column_stack([model.predict(asked)[0] for model in models])[feasibility > math.log(0.5)]
        reference = reference_point(front, likely)
        return log_improvement(models, asked, front, reference, favour, self._rng)

    def _constraints(self, encoding: Encoding, trials: Sequence[FrozenTrial]) -> list[GaussianProcess]:
        """A model of each constraint that was ever broken."""
        found = []
        for name in {n: None for t in trials for n in t.constraints}:
            telling = [t for t in trials if name in t.constraints and informs(t, name)]
            values = np.array([_ratio_to_limit(max(t.constraints[name], _COMFORTABLE)) for t in telling])
            if len(values) and values.max() > 0:
                found.append(self._fit(name, encoding, encoding.rows([t.params for t in telling]), values))
        return found

    def _fit(self, name: str, encoding: Encoding, rows: Array, values: Array) -> GaussianProcess:
        """Begins where the fit before has ended."""
        start = self._fits.get(name)
        if start is not None and len(start) != 2 * rows.shape[1] + 2:
            start = None
        model = GaussianProcess(rows, values, encoding.categorical, start)
        self._fits[name] = model.parameters
        return model


def informs(trial: FrozenTrial, constraint: str) -> bool:
    """Whether a trial says how far a constraint is kept: one without a measurement tells only what it broke."""
    return not trial.user_attrs.get("imputed") or trial.constraints[constraint] > 0


def _ratio_to_limit(violation: float) -> float:
    """Logarithm of a figure's ratio to its limit, for ratios are what knobs multiply: a violation of 1 is twice it."""
    return math.log1p(max(violation, _LEAST_VIOLATION))


def is_feasible(trial: FrozenTrial) -> bool:
    return all(v <= 0 for v in trial.constraints.values())


def _within(space: Mapping[str, Any], params: Mapping[str, Any]) -> Point:
    return {name: value for name, value in params.items() if name in space}


def _key(point: Point) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, repr(value)) for name, value in point.items()))


def subsample(trials: Sequence[FrozenTrial], signs: Array, rng: np.random.RandomState) -> list[FrozenTrial]:
    """As many trials as a model can take within seconds: the feasible front, the latest, and any others, in order.

    Args:
        trials: All completed trials.
        signs: Shape (objectives,): 1 where an objective is minimized, -1 where it is maximized.
        rng: Draws the others.
    """
    if len(trials) <= _MODELLED:
        return list(trials)
    feasible = [i for i, t in enumerate(trials) if is_feasible(t)]
    losses = np.array([signs * trials[i].values for i in feasible]).reshape(len(feasible), len(signs))
    best = [i for i, on_it in zip(feasible, non_dominated(losses), strict=True) if on_it][-_MODELLED // 2 :]
    kept = {*best, *range(len(trials) - _MODELLED // 4, len(trials))}
    others = [i for i in range(len(trials)) if i not in kept]
    kept |= {others[i] for i in rng.choice(len(others), size=_MODELLED - len(kept), replace=False)}
    return [trials[i] for i in sorted(kept)]


def log_scaled(values: Sequence[float], log_scale: Sequence[bool]) -> list[float]:
    """The values of a trial, the marked ones replaced by their logarithms."""
    pairs = zip(values, log_scale, strict=True)
    return [math.log(max(value, _TINY)) if use_log else value for value, use_log in pairs]
