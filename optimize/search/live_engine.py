"""The live engine as samplers see it, and the rule by which a sampler that knows nothing of costs stays on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState


@dataclass(frozen=True, slots=True)
class CodeCosts:
    """What compiling takes: engines that differ in certain knobs only share their code.

    Attributes:
        compile_s: Seconds that the first engine of new code takes beyond any other start.
        knobs: Knobs that decide the code.
        compiled: Their values, in this order, for which the code is there.
    """

    compile_s: float = 0.0
    knobs: tuple[str, ...] = ()
    compiled: frozenset[tuple[Any, ...]] = frozenset()

    def seconds(self, params: Mapping[str, Any]) -> float:
        return 0.0 if tuple(params.get(name) for name in self.knobs) in self.compiled else self.compile_s


@dataclass(frozen=True, slots=True)
class LiveEngine:
    """The engine that is running now, as far as a sampler needs to know it.

    Attributes:
        knobs: Its engine knobs; a trial that shares them needs no start.
        start_s: Seconds that starting another engine takes.
        trial_s: Seconds that a trial takes in addition.
        trials: Trials it has served so far, the one that started it included.
        code: What starting an engine of new code takes beyond that.
        only: Whether all knobs are the engine's, so that no other trial can share it.
    """

    knobs: Mapping[str, Any]
    start_s: float
    trial_s: float
    trials: int = 1
    code: CodeCosts = CodeCosts()
    only: bool = False

    def serves(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial with these settings needs no other engine."""
        return all(params.get(name) == value for name, value in self.knobs.items())

    def seconds(self, params: Mapping[str, Any]) -> float:
        """What a trial with these settings takes: itself, and its share of a start and a compilation.

        The trials that an engine is worth share its start, and once the live engine has served as many, staying is as
        dear as leaving. If the first trial of an engine bore the start alone, a search in many knobs would never leave:
        there is always another setting to try on the live engine, and models never quite exclude that it gains.
        """
        if self.serves(params) and (self.only or self.trials < self._worth()):
            return self.trial_s
        start_s = self.start_s + self.code.seconds(params)
        return self.trial_s + start_s / (1.0 if self.only else max(1.0, self._worth()))

    def is_due_to_end(self) -> bool:
        """Whether it has served as many trials as its start was worth."""
        return self.trials >= round(self._worth())

    def _worth(self) -> float:
        """How many trials a start is worth.

        The rule is that of two-stage sampling: where a cluster (an engine) costs `start_s` and each element in it (a
        request setting) `trial_s`, and the variances are unknown, sqrt(start_s / trial_s) elements per cluster give
        the most for the money (Cochran 1977, "Sampling Techniques", section 10.6).
        """
        return math.sqrt(self.start_s / self.trial_s)


@runtime_checkable
class EngineAware(Protocol):
    """A sampler that takes the live engine into account; None where nothing runs or reuse is switched off."""

    live: LiveEngine | None


class EngineReuseSampler(BaseSampler):
    """Any sampler, kept to the knobs of the live engine until that has served as many trials as its start was worth.

    Args:
        sampler: Samples all knobs, or those of requests only while the engine stays.

    Attributes:
        sampler: As the argument.
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler
        self.live: LiveEngine | None = None

    @property
    def _fixed(self) -> Mapping[str, Any]:
        """Knobs that the next trial must keep, and their values."""
        return {} if self.live is None or self.live.only or self.live.is_due_to_end() else self.live.knobs

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space = self.sampler.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in space.items() if name not in self._fixed}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name in self._fixed:
            return self._fixed[param_name]
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def is_exhausted(self, study: optuna.Study) -> bool:
        """Whether the sampler has nothing left to try; one that has no end never is."""
        exhausted = getattr(self.sampler, "is_exhausted", None)
        return exhausted is not None and bool(exhausted(study))


def engine_aware(sampler: BaseSampler) -> BaseSampler:
    """The sampler itself where it takes the live engine into account, else one that stays on the engine by a rule."""
    return sampler if isinstance(sampler, EngineAware) else EngineReuseSampler(sampler)
