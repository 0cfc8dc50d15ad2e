"""vLLM's defaults as a point of the search space: the configuration of the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optimize.driver.session import Session
from optimize.engine.base import TrialConfig
from optimize.engine.variables import default_values
from optimize.errors import EngineFailure, OptimizeError, TransientFault
from optimize.evaluation.refusal import whole_reason
from optimize.executor.base import Executor
from optimize.load.pace import Pace
from optimize.search.knobs import flag_of
from optimize.search.space import SearchSpace
from optimize.search.variables import PREFIX
from optimize.study.lifecycle import with_space
from optimize.study.trials import baseline_estimates, baseline_pace

_PARAMS, _OUTSIDE = "baseline_params", "baseline_outside"
"""User attributes of the study: the baseline's settings, and the knobs whose defaults lie outside the space."""


class Baseline:
    """The baseline of a study.

    Args:
        session: The session; its study keeps the baseline's settings.
        executor: Starts the engine that reports its settings.
    """

    def __init__(self, session: Session, executor: Executor) -> None:
        self._session, self._executor = session, executor
        self._space = session.plan.space

    def params(self) -> dict[str, Any]:
        """Knob -> value; the first session of a study reads them from an engine.

        Raises:
            OptimizeError: vLLM's defaults do not run here.
        """
        stored: dict[str, Any] | None = self._session.study.user_attrs.get(_PARAMS)
        return stored or self._read()

    def _read(self) -> dict[str, Any]:
        """Start an engine without flags and read its settings; the baseline's trial then reuses the engine."""
        progress, study = self._session.progress, self._session.study
        self._space.baseline_params({})  # what no engine can tell is asked for before one starts
        effective = self._effective()
        params, outside = self._space.baseline_params(effective)
        for knob in _beyond(self._space, params):
            progress.say(
                f"note: vLLM's default here, {knob}={params[knob]}, is taken into the search space, which ended before "
                f"it; '+baseline.{knob}=VALUE' measures another baseline instead"
            )
        for knob in outside:
            unknown = flag_of(knob) in self._space.engine_flags and flag_of(knob) not in effective
            lies = "is not reported" if unknown else "lies outside the search space"
            progress.say(f"note: vLLM's default {knob} {lies}; the baseline uses {params[knob]} instead")
        for knob in self._space.baseline_overrides:
            progress.say(
                f"note: the baseline runs with {knob}={params[knob]} (baseline.{knob}) in place of vLLM's default; "
                "gains are relative to that"
            )
        if not self._space.allows(params):
            progress.say("note: search_space.forbid forbids the baseline, which is measured all the same")
        study.set_user_attr(_OUTSIDE, outside)
        study.set_user_attr(_PARAMS, params)
        return params

    def _effective(self) -> dict[str, Any]:
        """Flag -> value of an engine that was started without flags; empty where no engine can be started."""
        if self._session.plan.launcher.request_knobs_only:
            return {}
        phase = "starting vLLM with its defaults"
        self._session.progress.phase(phase)
        config = self._space.vllm_defaults(self._session.checkpoints)
        try:
            return self._variables() | self._executor.effective(config.engine, self._space.engine_flags)
        except EngineFailure as failure:
            raise _unstarted(whole_reason(failure, phase, failure.disturbances or ())) from failure
        except TransientFault as fault:
            raise _unstarted(whole_reason(fault, phase)) from fault

    def _variables(self) -> dict[str, Any]:
        """Knob -> vLLM's own default, for the environment variables whose default its source states."""
        defaults = default_values() if self._space.variables else {}
        return {f"{PREFIX}{name}": defaults[name] for name in self._space.variables if name in defaults}

    def config_of(self, params: Mapping[str, Any], baseline: bool = False) -> TrialConfig:
        """The configuration of a point; the baseline runs without flags but those that the user has set for it.

        One that had to be moved into the space has them all.
        """
        checkpoints = self._session.checkpoints
        if baseline and not self._session.study.user_attrs.get(_OUTSIDE):
            return self._space.vllm_defaults(checkpoints, params)
        return self._space.resolve(params, checkpoints)

    def slowness(self) -> str:
        """What a slow model means for the study, in words; empty where windows hold all of their answers."""
        pace = Pace.from_dict(baseline_pace(self._session.study))
        requests = self._session.plan.config.load.window_requests
        if pace is None or pace.answers >= requests:
            return ""
        return (
            f"an answer takes up to {pace.answer_s:.3g} s here: a window of {pace.window_s:.0f} s holds {pace.answers} "
            f"answers instead of {requests}, and its intervals are wide (load.window_max_s=SECONDS waits for all)"
        )


def with_defaults(session: Session, executor: Executor) -> Session:
    """The session with vLLM's defaults in its search space; the first session of a study reads them from an engine.

    Args:
        session: The session.
        executor: Starts the engine; entered.

    Raises:
        OptimizeError: vLLM's defaults do not run here.
    """
    if _PARAMS not in session.study.user_attrs and baseline_estimates(session.study) is not None:
        return session  # a study of an early version, which has its baseline
    space = session.plan.space.including(Baseline(session, executor).params())
    if space is session.plan.space:
        return session
    plan = replace(session.plan, space=space)
    with_space(session.study, plan)
    return replace(session, plan=plan)


def _beyond(space: SearchSpace, params: Mapping[str, Any]) -> list[str]:
    """The knobs whose values lie beyond the space."""
    wide = space.including(params).distributions
    return [knob for knob, distribution in space.distributions.items() if wide[knob] != distribution]


def _unstarted(reason: str) -> OptimizeError:
    return OptimizeError(f"vLLM's own defaults do not run here: {reason}")
