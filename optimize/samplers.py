"""Samplers this project adds to Optuna's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GPSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState

LOG_SCALE_ATTR = "log_scale"
"""Study attribute: one bool per objective, whether its logarithm is what matters."""
_GRID_STEPS = 5
_TINY = 1e-9


class LogScaleGPSampler(GPSampler):
    """Gaussian-process search that sees the logarithm of objectives whose ratios matter.

    Throughput, latency and memory span orders of magnitude; on their raw scale the slowest few points drown all
    differences among the good ones. Stored values stay as measured: only the copies handed to the model are scaled.
    Overrides the private `_sample_relative_impl` of Optuna 5.0, hence the pin in pyproject.toml.
    """

    def __init__(self, *, n_startup_trials: int = 8, seed: int | None = None) -> None:
        super().__init__(n_startup_trials=n_startup_trials, seed=seed, warn_independent_sampling=False)

    def _sample_relative_impl(
        self,
        study: optuna.Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        # The models are tiny: more threads than one only fight over the cores the engine needs.
        torch.set_num_threads(1)
        log_scale = study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(study.directions))
        scaled = [log_scaled(trial, log_scale) for trial in completed_trials]
        return super()._sample_relative_impl(study, scaled, running_trials, search_space)


def log_scaled(trial: FrozenTrial, log_scale: list[bool]) -> FrozenTrial:
    """A copy of a completed trial whose marked values are replaced by their logarithms."""
    scaled = copy.copy(trial)
    scaled.values = [
        math.log(max(value, _TINY)) if use_log else value
        for value, use_log in zip(trial.values, log_scale, strict=True)
    ]
    return scaled


class ExhaustiveSampler(GridSampler):
    """A grid for the ask/tell loop, which looks at `is_exhausted` itself instead of being stopped from within."""

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nothing: Optuna's own calls `study.stop()`, which exists only under `study.optimize`."""


def grid(space: Mapping[str, BaseDistribution], seed: int | None = None) -> ExhaustiveSampler:
    """Every combination of choices and of a few steps of each range, in a seeded order."""
    return ExhaustiveSampler({name: grid_values(distribution) for name, distribution in space.items()}, seed=seed)


def grid_values(distribution: BaseDistribution) -> list[Any]:
    """All choices; all values of a short range; else five of it, or powers of two where it is logarithmic."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if isinstance(distribution, IntDistribution) and distribution.log:
        return sorted({min(high, low * 2**i) for i in range(64) if low * 2 ** (i - 1) < high})
    if distribution.log:
        return [low * (high / low) ** (i / (_GRID_STEPS - 1)) for i in range(_GRID_STEPS)]
    if step is None:
        return [low + (high - low) * i / (_GRID_STEPS - 1) for i in range(_GRID_STEPS)]
    count = round((high - low) / step)
    picked = (
        range(count + 1) if count < _GRID_STEPS else [round(count * i / (_GRID_STEPS - 1)) for i in range(_GRID_STEPS)]
    )
    return [low + i * step for i in picked]
