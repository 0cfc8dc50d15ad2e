"""The samplers that are compared, each told of failures and limits in its own way."""

from __future__ import annotations

from collections.abc import Callable

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from benchmarks.searching.problem import Problem
from optimize.search.gp_sampler import LogScaleGPSampler

OURS = "ours"


def _ours(problem: Problem, seed: int) -> BaseSampler:
    return LogScaleGPSampler(seed=seed, canonical=problem.canonical, saturation=problem.saturation)


def _tpe(_: Problem, seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True, n_startup_trials=8)


def _botorch(_: Problem, seed: int) -> BaseSampler:
    """It needs an environment of its own: `pip install botorch optuna-integration`, beside this project."""
    import torch
    from optuna_integration.botorch import BoTorchSampler, qnehvi_candidates_func  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    return BoTorchSampler(  # type: ignore[no-any-return]
        seed=seed, n_startup_trials=8, candidates_func=qnehvi_candidates_func
    )


def _smac(problem: Problem, seed: int) -> BaseSampler:
    from benchmarks.searching.smac_sampler import SMACSampler

    return SMACSampler(problem.space, len(problem.objectives), seed)


SAMPLERS: dict[str, Callable[[Problem, int], BaseSampler]] = {
    "random": lambda _, seed: RandomSampler(seed=seed),
    "Sobol": lambda _, seed: QMCSampler(seed=seed, scramble=True),
    "NSGA-II, population 10": lambda _, seed: NSGAIISampler(seed=seed, population_size=10),
    "TPE multivariate": _tpe,
    "Optuna's GP": lambda _, seed: GPSampler(seed=seed, n_startup_trials=8),
    "BoTorch qLogNEHVI": _botorch,
    "SMAC": _smac,
    OURS: _ours,
}
