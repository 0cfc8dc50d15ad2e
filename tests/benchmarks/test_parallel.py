"""Replays with several engines at a time, on a made-up table."""

from __future__ import annotations

import itertools

import pytest
from optuna.samplers import RandomSampler

from benchmarks.ground_truth import key_of
from benchmarks.parallel import Blind, Outcome, Replay, compared
from benchmarks.replay import Policy
from benchmarks.tabular import BASELINE
from optimize.search.gp_sampler import LogScaleGPSampler
from tests.benchmarks.test_replay import KNOWN, START_S, TRIAL_S, WARM

RANDOM = Policy(lambda seed: RandomSampler(seed=seed), trials=40)


def replayed(workers: int, policy: Policy = RANDOM, trials: int = 40) -> Outcome:
    return Replay(policy, 1, KNOWN, workers).run(trials)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_trial_ends_once_and_the_baseline_first(workers: int) -> None:
    steps = replayed(workers).steps
    assert len(steps) == 40 and steps[0].key == key_of(BASELINE)
    ends = [s.spent_s for s in steps]
    assert ends == sorted(ends)


def test_several_engines_take_a_fraction_of_the_time() -> None:
    alone, many = (replayed(workers).steps[-1].spent_s for workers in (1, 8))
    assert alone > 25 * TRIAL_S, "some are known to fail, and take no time"
    assert many < alone / 4


def test_no_more_trials_run_at_a_time_than_there_are_engines() -> None:
    steps = [s for s in replayed(4).steps[1:] if not s.from_memory]
    spans = [(s.spent_s - TRIAL_S, s.spent_s) for s in steps]
    for at, _ in spans:
        assert sum(began <= at + 1e-6 and at + 1e-6 < ended for began, ended in spans) <= 4


def test_one_engine_at_a_time_is_the_sequential_search() -> None:
    steps = replayed(1, WARM).steps
    for before, step in itertools.pairwise(steps):
        spent_s = step.spent_s - before.spent_s - step.thinking_s
        assert spent_s == pytest.approx(0.0) or spent_s == pytest.approx(TRIAL_S) or spent_s == pytest.approx(
            START_S + TRIAL_S
        )  # fmt: skip


@pytest.mark.parametrize("sampler", [LogScaleGPSampler, Blind])
def test_only_a_sampler_blind_to_trials_under_way_proposes_their_points_again(sampler: type[LogScaleGPSampler]) -> None:
    policy = Policy(lambda seed: sampler(seed=seed, n_startup_trials=4), trials=14)
    outcome = replayed(8, policy, trials=14)
    assert len(outcome.steps) == 14
    assert (outcome.repeats > 0) == (sampler is Blind)


def test_the_table_compares_with_one_engine() -> None:
    result = {("random", n): [Replay(RANDOM, seed, KNOWN, n).run(40) for seed in range(3)] for n in (1, 2)}
    rows = compared(result, KNOWN).splitlines()
    assert len(rows) == 4
    assert rows[2].startswith("| random | 1 |") and rows[3].startswith("| random | 2 |")
