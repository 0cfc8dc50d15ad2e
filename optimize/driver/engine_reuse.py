"""When to stay on the live engine: before each ask, the sampler learns which engine runs and what leaving it costs."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler
from optuna.trial import FrozenTrial

from optimize.search.gp_sampler import EngineAware, LiveEngine
from optimize.study.trial_attributes import NEW_ENGINE
from optimize.study.trials import measured


class EngineReuse:
    """Keeps the study's sampler informed of the live engine; one that cannot use that is made to stay by a rule.

    The rule is that of two-stage sampling: where a cluster (an engine) costs `start_s` and each element in it (a
    request setting) `trial_s`, and nothing is known of the variances, sqrt(start_s / trial_s) elements per cluster
    give the most for the money (Cochran 1977, "Sampling Techniques", section 10.6).

    Args:
        study: The study whose sampler asks.
        request_knobs: Knobs that need no new engine.
    """

    def __init__(self, study: optuna.Study, request_knobs: Sequence[str]) -> None:
        self._study, self._request_knobs = study, set(request_knobs)
        self._sampler: BaseSampler = study.sampler

    def offer(self, params: Mapping[str, Any] | None) -> None:
        """Tell the sampler what runs.

        Args:
            params: Settings of the last trial if its engine is live, else None.
        """
        live = self._live(params) if params is not None and self._request_knobs & set(params) else None
        if isinstance(self._sampler, EngineAware):
            self._sampler.live = live
            return
        self._study.sampler = self._sampler
        if live is not None and self._settings_so_far() < round(math.sqrt(live.start_s / live.trial_s)):
            self._study.sampler = fixed(self._sampler, live.knobs)

    def _live(self, params: Mapping[str, Any]) -> LiveEngine | None:
        trials = [t for t in measured(self._study) if "total" in t.user_attrs.get("seconds", {})]
        starts = [_start_s(t) for t in trials if t.user_attrs.get(NEW_ENGINE)]
        if not starts:
            return None
        trial_s = statistics.median(t.user_attrs["seconds"]["total"] - _start_s(t) for t in trials)
        knobs = {name: value for name, value in params.items() if name not in self._request_knobs}
        return LiveEngine(knobs, statistics.median(starts), max(trial_s, 1e-3))

    def _settings_so_far(self) -> int:
        """Trials since the live engine was started, the one that started it included."""
        count = 0
        for trial in reversed(measured(self._study)):
            count += 1
            if trial.user_attrs.get(NEW_ENGINE):
                break
        return count


def _start_s(trial: FrozenTrial) -> float:
    return float(trial.user_attrs["seconds"]["engine_start"])


def fixed(sampler: BaseSampler, knobs: Mapping[str, Any]) -> BaseSampler:
    """A sampler that keeps to these engine knobs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PartialFixedSampler(dict(knobs), sampler)
