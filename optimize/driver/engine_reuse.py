"""When to stay on the live engine: before each ask, the sampler learns which engine runs and what leaving it costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optimize.engine.flags import SAME_CODE
from optimize.engine.startup import COMPILING, phases_in
from optimize.search.knobs import flag_of
from optimize.search.live_engine import CodeCosts, EngineAware, LiveEngine
from optimize.study.trial_attributes import NEW_ENGINE
from optimize.study.trials import measured_trials

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_LEAST_TRIAL_S = 1e-3


class EngineReuse:
    """Keeps the study's sampler informed of the live engine.

    Args:
        study: The study whose sampler asks.
        request_knobs: Knobs that need no new engine.

    Raises:
        TypeError: the study's sampler takes no account of a live engine.
    """

    def __init__(self, study: optuna.Study, request_knobs: Sequence[str]) -> None:
        if not isinstance(study.sampler, EngineAware):
            raise TypeError(f"{type(study.sampler).__name__} must be wrapped in an EngineReuseSampler")
        self._study, self._request_knobs = study, set(request_knobs)
        self._sampler: EngineAware = study.sampler

    def offer(self, params: Mapping[str, Any] | None) -> None:
        """Tell the sampler which engine is running.

        Args:
            params: Settings of the last trial if its engine is live, else None.
        """
        self._sampler.live = self._live(params) if params is not None else None

    def _live(self, params: Mapping[str, Any]) -> LiveEngine | None:
        """The live engine with its median costs; None before any trial has started an engine."""
        trials = measured_trials(self._study)
        timed = [t for t in trials if "total" in t.user_attrs.get("seconds", {})]
        started = [t for t in timed if t.user_attrs.get(NEW_ENGINE)]
        if not started:
            return None
        trial_s = statistics.median(t.user_attrs["seconds"]["total"] - _start_s(t) for t in timed)
        knobs = {name: value for name, value in params.items() if name not in self._request_knobs}
        start_s, code = costs_of(started, sorted(name for name in knobs if flag_of(name) not in SAME_CODE))
        only = not self._request_knobs & set(params)
        return LiveEngine(knobs, start_s, max(trial_s, _LEAST_TRIAL_S), _since_start(trials), code, only)


def costs_of(started: Sequence[FrozenTrial], knobs: Sequence[str]) -> tuple[float, CodeCosts]:
    """(Median seconds of a start whose code is there, what new code takes beyond it).

    Args:
        started: Trials that have started an engine, in their order; whichever of them came first with its values of
            the knobs has compiled.
        knobs: Knobs that decide the code.
    """
    firsts: list[float] = []
    laters: list[float] = []
    compiled: set[tuple[Any, ...]] = set()
    for trial in started:
        code = tuple(trial.params.get(name) for name in knobs)
        (laters if code in compiled else firsts).append(_compile_s(trial))
        compiled.add(code)
    again_s = statistics.median(laters) if laters else 0.0
    start_s = statistics.median(_start_s(trial) - _compile_s(trial) for trial in started) + again_s
    return start_s, CodeCosts(max(statistics.median(firsts) - again_s, 0.0), tuple(knobs), frozenset(compiled))


def _since_start(trials: Sequence[FrozenTrial]) -> int:
    """Trials since the live engine was started, the one that started it included."""
    for count, trial in enumerate(reversed(trials), start=1):
        if trial.user_attrs.get(NEW_ENGINE):
            return count
    return len(trials)


def _start_s(trial: FrozenTrial) -> float:
    return float(trial.user_attrs["seconds"]["engine_start"])


def _compile_s(trial: FrozenTrial) -> float:
    return float(phases_in(trial.user_attrs["seconds"]).get(COMPILING, 0.0))
