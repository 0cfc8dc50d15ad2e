"""One study of a problem by a sampler, trial by trial."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from benchmarks.searching.problem import Point, Problem, Reading
from optimize.search.encoding import PointKey, point_key
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.search.live_engine import EngineAware, LiveEngine


@dataclass(frozen=True)
class Step:
    """One trial of a study.

    Attributes:
        share: Of the best known hypervolume, after this trial.
        measured: Whether it gave figures.
        repeated: Whether its point had failed before.
        thinking_s: Seconds of a processor that the sampler took: other programs beside the replay do not count.
        spent_s: Seconds from the study's begin to the trial's end.
    """

    share: float
    measured: bool
    repeated: bool
    thinking_s: float
    spent_s: float


def run(problem: Problem, sampler: BaseSampler, seed: int, trials: int) -> list[Step]:
    """A study that begins with the problem's defaults.

    Every sampler is told objectives on the scale that matters and constraints in Optuna's own way. A trial without
    figures has the worst values so far.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    study = optuna.create_study(directions=["minimize"] * len(problem.objectives), sampler=sampler)
    study.set_user_attr(LOG_SCALE_ATTR, [False] * len(problem.objectives))
    study.enqueue_trial(dict(problem.start))
    return _Study(problem, study, np.random.default_rng(seed)).steps(trials)


class _Study:
    def __init__(self, problem: Problem, study: optuna.Study, rng: np.random.Generator) -> None:
        self._problem, self._study, self._rng = problem, study, rng
        self._points: list[Point] = []
        self._readings: list[Reading] = []
        self._losses: list[list[float]] = []
        self._failed: set[PointKey] = set()
        self._live: Mapping[str, Any] | None = None
        self._served = 0
        self._trial_s: list[float] = []

    def steps(self, trials: int) -> list[Step]:
        steps, spent_s, share = list[Step](), 0.0, 0.0
        while len(steps) < trials:
            began = time.process_time()
            trial = self._ask()
            thinking_s = time.process_time() - began
            point = self._problem.canonical(trial.params)
            reading = self._problem.draw(point, self._readings, self._rng)
            self._tell(trial, reading)
            self._readings.append(reading)
            if reading.refused:
                continue
            repeated = point_key(point) in self._failed
            spent_s += thinking_s + (0.0 if repeated else self._start_s(point) + reading.seconds)
            if reading.values is None:
                self._failed.add(point_key(point))
            else:
                self._points.append(point)
                share = self._problem.share(self._points)
            self._served = self._served + 1 if self._live == self._engine(point) else 1
            self._live = self._engine(point) if reading.values is not None else None
            self._trial_s.append(reading.seconds)
            steps.append(Step(share, reading.values is not None, repeated, thinking_s, spent_s))
        return steps

    def _ask(self) -> optuna.Trial:
        if isinstance(self._study.sampler, EngineAware) and self._problem.engine_knobs:
            self._study.sampler.live = self._live_engine()
        return self._study.ask(dict(self._problem.space))

    def _live_engine(self) -> LiveEngine | None:
        if self._live is None:
            return None
        return LiveEngine(self._live, self._problem.start_s, float(np.median(self._trial_s)), self._served)

    def _engine(self, point: Point) -> Mapping[str, Any]:
        return {knob: point[knob] for knob in self._problem.engine_knobs}

    def _start_s(self, point: Point) -> float:
        return 0.0 if self._live == self._engine(point) else self._problem.start_s

    def _tell(self, trial: optuna.Trial, reading: Reading) -> None:
        for name, violation in reading.violations.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr("imputed", reading.values is None)
        if reading.values is not None:
            objectives = self._problem.objectives.values()
            self._losses.append([float(o.loss(np.array(v))) for o, v in zip(objectives, reading.values, strict=True)])
        worst = [max(column) for column in zip(*self._losses, strict=True)] or [0.0] * len(self._problem.objectives)
        self._study.tell(trial, self._losses[-1] if reading.values is not None else worst)


def as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]
