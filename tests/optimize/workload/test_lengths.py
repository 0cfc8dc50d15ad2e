"""Stated lengths of prompts and answers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest

from optimize.errors import ConfigError
from optimize.workload.lengths import Fixed, Lengths, LogNormal, Uniform


def drawn(lengths: Lengths, n: int = 4000, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [lengths.draw(rng) for _ in range(n)]


def test_fixed_lengths_are_all_alike() -> None:
    assert set(drawn(Fixed(7))) == {7}


def test_uniform_lengths_reach_both_ends() -> None:
    lengths = drawn(Uniform(3, 6))
    assert set(lengths) == {3, 4, 5, 6}
    assert statistics.fmean(lengths) == pytest.approx(4.5, abs=0.1)


def test_lognormal_lengths_have_their_median_and_keep_their_bounds() -> None:
    lengths = drawn(LogNormal(median=50, sigma=0.7, low=10, high=200))
    assert statistics.median(lengths) == pytest.approx(50, rel=0.06)
    assert (min(lengths), max(lengths)) == (10, 200)
    assert statistics.quantiles(lengths, n=100)[83] == pytest.approx(50 * 2.718**0.7, rel=0.1)  # one sigma above


def test_a_seed_always_draws_the_same() -> None:
    assert drawn(LogNormal(), seed=1) == drawn(LogNormal(), seed=1) != drawn(LogNormal(), seed=2)


@pytest.mark.parametrize(
    "make",
    [lambda: Fixed(0), lambda: Uniform(5, 4), lambda: Uniform(0, 4), lambda: LogNormal(median=0.5),
     lambda: LogNormal(sigma=-1.0), lambda: LogNormal(low=9, high=8)],
)  # fmt: skip
def test_impossible_lengths_are_refused(make: Callable[[], Lengths]) -> None:
    with pytest.raises(ConfigError, match="must be at least"):
        make()
