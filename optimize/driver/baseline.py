"""vLLM's defaults as a point of the search space: what the baseline runs, and what to call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optimize.driver.progress import Progress
from optimize.engine.base import TrialConfig
from optimize.errors import EngineFailure, OptimizeError, TransientFault
from optimize.executor.base import Executor
from optimize.plan import Plan

if TYPE_CHECKING:
    import optuna

_PARAMS, _OUTSIDE = "baseline_params", "baseline_outside"


class Baseline:
    """Of one study.

    Args:
        plan: The study's parts.
        study: Remembers what they are.
        checkpoints: Recipe name -> checkpoint.
        executor: Has an engine to ask.
        progress: Told where they lie outside the space.
    """

    def __init__(
        self, plan: Plan, study: optuna.Study, checkpoints: Mapping[str, str], executor: Executor, progress: Progress
    ) -> None:
        self._plan, self._study, self._checkpoints = plan, study, checkpoints
        self._executor, self._progress = executor, progress

    def params(self) -> dict[str, Any]:
        """Knob -> value, asked of an engine the first time.

        Raises:
            OptimizeError: it does not run here.
        """
        known: dict[str, Any] = self._study.user_attrs.get(_PARAMS) or self._ask()
        return known

    def _ask(self) -> dict[str, Any]:
        """Start an engine without flags and read what it runs with; the baseline trial then reuses it."""
        space, config = self._plan.space, self._plan.space.vllm_defaults(self._checkpoints)
        effective: dict[str, Any] = {}
        if not self._plan.launcher.request_knobs_only:
            self._progress.phase("starting vLLM with its defaults")
            try:
                effective = self._executor.effective(config.engine, space.engine_flags)
            except (EngineFailure, TransientFault) as failure:
                raise OptimizeError(f"vLLM's own defaults do not run here: {failure}") from failure
        params, outside = space.baseline_params(effective)
        for knob in outside:
            self._progress.say(
                f"note: vLLM's default {knob} lies outside the search space; the baseline uses {params[knob]} instead"
            )
        self._study.set_user_attr(_OUTSIDE, outside)
        self._study.set_user_attr(_PARAMS, params)
        return params

    def config_of(self, params: Mapping[str, Any], baseline: bool = False) -> TrialConfig:
        """What to run for a point; for the baseline no flag at all, unless it had to be moved into the space."""
        if baseline and not self._study.user_attrs.get(_OUTSIDE):
            return self._plan.space.vllm_defaults(self._checkpoints)
        return self._plan.space.resolve(params, self._checkpoints)
