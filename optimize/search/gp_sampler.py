"""The search by Gaussian processes: of the objectives, of the constraints, and of the cost of a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from optimize.search.acquisition import Improvement, log_feasibility, reference_point
from optimize.search.designs import filling, neighbours, one_choice_apart, outwards_in, scattered
from optimize.search.encoding import Array, Encoding, Point, Space, every_point, is_unordered, point_key
from optimize.search.gaussian_process import GaussianProcess
from optimize.search.history import (
    History,
    is_feasible,
    is_measured,
    log_ratio_to_limit,
    log_scaled,
    ratios_to_limits,
    signs_of,
    within,
)
from optimize.search.live_engine import LiveEngine

LOG_SCALE_ATTR = "log_scale"
"""Study attribute: one bool per objective, whether its logarithm is what matters."""
GIVEN_POINTS_ATTR = "given_points"
"""Study attribute: how many points of earlier studies it begins with."""
_DESIGNS = 3
_MOST_CHOICES = 12
_CANDIDATES = 2000
_NEAR = 16
_MOST_LIKELY = 500
_PEAKS, _CLIMBS = 5, 4
_MOST_SINGLE = 4
Canonical = Callable[[Mapping[str, Any]], dict[str, Any]]
Gains = Callable[[Sequence[Point]], Array]
"""The logarithm of what points are worth trying, shape (points,)."""


class LogScaleGPSampler(BaseSampler):
    """Search by models of the objectives, on logarithms where ratios matter, of constraints, and of the cost of trials.

    The first points are those that differ from the first trial, vLLM's defaults, in one choice: each recipe and each
    flag is measured once where it most likely runs. If that makes few or very many points, they fill the space instead
    (Morris and Mitchell 1995, "Exploratory designs for computational experiments"). A study that begins with points of
    earlier ones goes without: those show already which choices do not run or are of no use. An ordered knob that was
    measured at one value only, because it could not run at others, is soon tried at another where it most likely can;
    as long as there are many of these, the models change them together.

    Every other trial is the point with the highest expected gain of hypervolume, times the probability that it keeps
    the constraints, per second: while an engine is live, settings that it can serve save a start (Snoek, Larochelle and
    Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", section 3.2). In large spaces it is
    looked for among drawn points, neighbours of what was measured, and then neighbours of the best of these.

    A trial without a measurement tells only which constraints it broke; its values are not learned from. Trials under
    way count by what the models expect of them. A point that was tried, or is being tried, is not tried again while
    there are others, nor is one that other programs kept from being measured, of which no model learns anything. Knobs
    that have no effect beside a point's other settings are put to one value (`canonical`), so that the models see equal
    engines as equal points.

    Args:
        n_startup_trials: Trials to complete before the models choose.
        seed: Of everything that is drawn.
        canonical: Puts knobs that have no effect to one value.
        saturation: Knob -> a value beyond which more of it changes little, where one is known: how many sequences an
            engine may serve at once, if there are fewer.

    Attributes:
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    def __init__(
        self, *, n_startup_trials: int = 5, seed: int | None = None, canonical: Canonical = dict,
        saturation: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self._n_startup_trials, self._canonical, self._saturation = n_startup_trials, canonical, saturation or {}
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
        disturbed = [t for t in _whole(study, search_space, TrialState.FAIL) if t.user_attrs.get("disturbed")]
        history = History(search_space, completed, self._under_way(study, search_space), disturbed)
        with_history = study.user_attrs.get(GIVEN_POINTS_ATTR, 0) >= self._n_startup_trials
        first = self._first_point(history, with_history)
        if first is not None:
            return first
        whole = every_point(search_space, _CANDIDATES)
        candidates = self._untried(history, whole or self._sampled(history))
        if not candidates:
            return history.tried[int(self._rng.randint(len(history.tried)))]
        gains = self._gains(study, history, candidates)
        return self._best(history, candidates, gains, 0 if whole else _CLIMBS)

    def _best(self, history: History, candidates: list[Point], gains: Gains, climbs: int) -> Point:
        """The candidate of the highest gain, after climbs from the best ones to what differs from them in one knob.

        In many knobs, no sample holds the point that unites the good values of all.
        """
        values = gains(candidates)
        for _ in range(climbs):
            best = np.argsort(-values)[:_PEAKS]
            peaks = [candidates[i] for i in best]
            near = self._untried(history, neighbours(history.space, peaks, self._rng))
            if not near:
                break
            candidates, values = [*peaks, *near], np.concatenate([values[best], gains(near)])
        return candidates[int(np.argmax(values))]

    def _under_way(self, study: optuna.Study, space: Space) -> list[FrozenTrial]:
        return _whole(study, space, TrialState.RUNNING)

    def _first_point(self, history: History, with_history: bool) -> Point | None:
        """The next point that is chosen without a model; a resumed study, or another driver, may have tried some."""
        for point in map(self._canonical, [] if with_history else self._single_choices(history)):
            if point not in history.tried:
                return point
        remaining = self._n_startup_trials - len(history.completed)
        if remaining > 0:
            return self._design_point(history, remaining)
        return self._unmeasured_value(history) if -remaining >= self._n_startup_trials // 2 else None

    def _single_choices(self, history: History) -> list[Point]:
        """Points one choice apart from the first trial's, unless they are very many."""
        points = one_choice_apart(history.space, history.tried[0]) if history.tried else []
        return points if len(points) <= _MOST_CHOICES else []

    def _design_point(self, history: History, n: int) -> Point:
        """The next of n points that fill the space; one that was tried where several designs hold no other."""
        point: Point = {}
        for _ in range(_DESIGNS):
            self._design = self._design or filling(history.space, n, self._rng)
            while self._design:
                point = self._canonical(self._design.pop())
                if point not in history.tried:
                    return point
        return point

    def _unmeasured_value(self, history: History) -> Point | None:
        """For an ordered knob that was measured at one value: another, beside the settings farthest from their limits.

        The far end of its range first, and if that cannot run, half of the way, and so on. A value that could not run
        beside settings that were measured is left to the models, and so are many such knobs: a trial for each of them
        alone would take a third of a study.
        """
        measured = [t for t in history.completed if is_measured(t)]
        if not measured:
            return None
        roomiest = min(measured, key=lambda t: sum(map(log_ratio_to_limit, t.constraints.values())))
        base = within(history.space, roomiest.params)
        single = [
            n for n, d in history.space.items() if not is_unordered(d) and len({t.params[n] for t in measured}) == 1
        ]
        for name in single if len(single) <= _MOST_SINGLE else []:
            for value in outwards_in(history.space[name], base[name]):
                # One chance each: otherwise luck in which trial is farthest from its limits would start it anew.
                beside = (self._canonical({**within(history.space, t.params), name: value}) for t in measured)
                if history.tried_keys.isdisjoint(map(point_key, beside)):
                    return self._canonical({**base, name: value})
        return None

    def _sampled(self, history: History) -> list[Point]:
        """A sample of the space, with points that the live engine serves, and those that differ little from others."""
        space = history.space
        near = [within(space, t.params) for t in history.completed[-_NEAR:] if is_measured(t)]
        points = [*scattered(space, _CANDIDATES // 2, self._rng), *neighbours(space, near, self._rng)]
        if self.live is not None:
            points += [{**p, **within(space, self.live.knobs)} for p in points[: _CANDIDATES // 4]]
        return points

    def _untried(self, history: History, points: Sequence[Point]) -> list[Point]:
        """Distinct points that no trial has tried, each with knobs without effect at one value."""
        distinct = {point_key(p): p for p in map(self._canonical, points)}
        return [point for key, point in distinct.items() if key not in history.tried_keys]

    def _seconds(self, points: Sequence[Point]) -> Array:
        """Cost of trying each point, shape (points,); 1 for all where no engine is live."""
        if self.live is None:
            return np.ones(len(points))
        return np.array([self.live.seconds(p) for p in points])

    def _gains(self, study: optuna.Study, history: History, candidates: Sequence[Point]) -> Gains:
        """Logarithm of points' expected improvement per second, times their probability of feasibility.

        Without a feasible measurement the improvement is left out.

        Args:
            study: The study.
            history: Its trials.
            candidates: Points of which some are probably feasible.
        """
        trials = history.subsample(study.directions, self._rng)
        measured = [t for t in trials if is_measured(t)]
        encoding = Encoding(history.space, self._saturation)
        constraints = self._constraints(encoding, trials)

        def favour(points: Sequence[Point], rows: Array) -> Array:
            return np.asarray(log_feasibility(constraints, rows) - np.log(self._seconds(points)))

        if not measured:
            return lambda points: favour(points, encoding.rows(points))
        log_scale = study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(study.directions))
        losses = np.array([log_scaled(t.values, log_scale) for t in measured]) * signs_of(study.directions)
        rows, under_way = (encoding.rows([t.params for t in part]) for part in (measured, history.running))
        models = self._objectives(encoding, rows, losses, under_way)
        feasible = _feasible(measured, constraints, rows)
        if not feasible.any():
            return lambda points: favour(points, encoding.rows(points))
        # Predicted, not as measured: of many noisy readings the best are the luckiest.
        front = _predicted(models, np.vstack([rows[feasible], under_way]))
        some = encoding.rows(candidates[:: 1 + len(candidates) // _MOST_LIKELY])
        likely = some[log_feasibility(constraints, some) > math.log(0.5)]
        improvement = Improvement(models, front, reference_point(front, _predicted(models, likely)), self._rng)

        def gains(points: Sequence[Point]) -> Array:
            encoded = encoding.rows(points)
            return improvement.logs(encoded, favour(points, encoded))

        return gains

    def _objectives(self, encoding: Encoding, rows: Array, losses: Array, under_way: Array) -> list[GaussianProcess]:
        """A model of each objective, with what it expects of the trials under way."""
        models = [self._fit(f"objective {i}", encoding, rows, column) for i, column in enumerate(losses.T)]
        if len(under_way):
            for model in models:
                model.fantasize(under_way)
        return models

    def _constraints(self, encoding: Encoding, trials: Sequence[FrozenTrial]) -> list[GaussianProcess]:
        """A model of each constraint that was ever broken."""
        rows = encoding.rows([t.params for t in trials])
        ratios = ratios_to_limits([t.constraints for t in trials], [is_measured(t) for t in trials])
        return [self._fit(name, encoding, rows[told], values) for name, (told, values) in ratios.items()]

    def _fit(self, name: str, encoding: Encoding, rows: Array, values: Array) -> GaussianProcess:
        """A model that starts from the parameters of the fit before."""
        start = self._fits.get(name)
        if start is not None and len(start) != 2 * rows.shape[1] + 2:
            start = None
        model = GaussianProcess(rows, values, encoding.categorical, start)
        self._fits[name] = model.parameters
        return model


def _whole(study: optuna.Study, space: Space, state: TrialState) -> list[FrozenTrial]:
    """Trials of a state, without those that another driver is just asking for: some of their settings are missing."""
    trials = study.get_trials(deepcopy=False, states=(state,))
    return [t for t in trials if space.keys() <= t.params.keys()]


def _predicted(models: Sequence[GaussianProcess], rows: Array) -> Array:
    """Expected values, shape (rows, models)."""
    if not len(rows):
        return np.empty((0, len(models)))
    return np.column_stack([model.predict(rows)[0] for model in models])


def _feasible(measured: Sequence[FrozenTrial], constraints: Sequence[GaussianProcess], rows: Array) -> Array:
    """Whether measured trials keep every constraint, shape (trials,): by the models, or if they say of none, as read.

    A reading of a figure near its limit keeps it by luck; of several such figures, hardly any reading keeps all.
    """
    kept = np.all([np.ones(len(rows), dtype=bool), *(c.predict(rows)[0] <= 0 for c in constraints)], axis=0)
    return np.asarray(kept if kept.any() else [is_feasible(t) for t in measured])
