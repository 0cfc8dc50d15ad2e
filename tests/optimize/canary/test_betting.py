"""The confidence sequence: exact error probabilities, coverage at all times, and how fast it gets narrow."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from optimize.canary.betting import BettingSequence


def probability_of_refuting(mean: float, flips: int, alpha: float, below: bool) -> float:
    """Exact probability that the true mean of coin flips is ever refuted from one side, over all sequences of flips."""
    total = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=flips):
        sequence, refuted = BettingSequence(mean), False
        for value in outcome:
            sequence.add(value)
            refuted |= sequence.lies_below(alpha) if below else sequence.lies_above(alpha)
        heads = sum(outcome)
        total += refuted * mean**heads * (1 - mean) ** (flips - heads)
    return total


@pytest.mark.parametrize(("mean", "below"), [(0.3, False), (0.3, True), (0.5, False)])
def test_the_true_mean_is_refuted_with_a_probability_of_at_most_alpha_whenever_one_looks(
    mean: float, below: bool
) -> None:
    probability = probability_of_refuting(mean, flips=8, alpha=0.3, below=below)
    assert 0 < probability <= 0.3


def test_the_interval_covers_the_mean_at_all_times() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(20):
        sequence, always = BettingSequence(0.5), True
        for value in generator.beta(2, 6, size=150):
            sequence.add(float(value))
            low, high = sequence.interval(0.05)
            always &= low <= 0.25 <= high
        covered += always
    assert covered >= 17  # at least 90 % of them, with probability above 98 %


def test_the_interval_narrows_around_the_mean() -> None:
    sequence = BettingSequence(0.5)
    for value in [0.2, 0.3, 0.25, 0.25] * 60:
        sequence.add(value)
    low, high = sequence.interval(0.05)
    assert low < 0.25 < high < low + 0.1
    assert sequence.mean == pytest.approx(0.25)


def test_the_interval_holds_the_mean_of_the_values_wherever_they_drift() -> None:
    sequence = BettingSequence(0.01)
    for value in [0.0] * 300 + [1.0] * 30:
        sequence.add(value)
    low, high = sequence.interval(0.05)
    assert low < sequence.mean < high


def test_a_share_of_one_percent_is_proven_to_be_kept_by_some_hundred_requests_without_a_failure() -> None:
    sequence = BettingSequence(0.01)
    while not sequence.lies_below(0.05):
        sequence.add(0.0)
    assert 300 < sequence.count < 600


def test_without_values_nothing_is_known() -> None:
    sequence = BettingSequence(0.5)
    assert sequence.interval(0.05) == (0.0, 1.0) and math.isnan(sequence.mean)
    assert not sequence.lies_below(0.05) and not sequence.lies_above(0.05)
