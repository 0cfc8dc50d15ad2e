"""How two sides compare in one objective, and what the margin makes of it."""

from __future__ import annotations

import math

import pytest

from objectives import Direction, Estimate
from objectives.segments import Paired
from optimize.guard.change import Change, Verdict, in_rounds, of_answers, since_stored

UP, DOWN = Direction.MAXIMIZE, Direction.MINIMIZE
PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def change_of(middle: float, error: float, direction: Direction = UP) -> Change:
    return Change(middle, error, 8, 0.0, direction)


@pytest.mark.parametrize(
    ("middle", "error", "verdict"),
    [
        (0.0, 0.005, PASS),
        (-0.04, 0.001, PASS),  # worse beyond doubt, and within the margin
        (-0.2, 0.01, FAIL),
        (0.0, 0.1, UNDECIDED),
        (-0.06, 0.01, UNDECIDED),
    ],
)
def test_the_whole_interval_decides(middle: float, error: float, verdict: Verdict) -> None:
    assert change_of(middle, error).verdict(0.05, 0.01, 0.01) is verdict


@pytest.mark.parametrize(("direction", "edge"), [(UP, math.log(0.95)), (DOWN, -math.log(1.05))])
def test_the_margin_is_a_share_of_the_rows_figure(direction: Direction, edge: float) -> None:
    """A rate may be 0.95 times the row's, a latency 1.05 times."""
    assert change_of(edge + 0.001, 0.0, direction).verdict(0.05, 0.01, 0.01) is PASS
    assert change_of(edge - 0.001, 0.0, direction).verdict(0.05, 0.01, 0.01) is FAIL


def test_the_ratio_is_the_figures_own_in_either_direction() -> None:
    rate = in_rounds([80, 82, 78], [100, 100, 100], UP)
    latency = in_rounds([1.25, 1.2, 1.3], [1, 1, 1], DOWN)
    assert rate is not None and latency is not None
    assert rate.middle < 0 and latency.middle < 0  # both are worse
    assert rate.interval(0.05, 0.05, 3).value == pytest.approx(0.8, rel=0.01)
    shown = latency.interval(0.05, 0.05, 3)
    assert shown.value == pytest.approx(1.25, rel=0.01) and shown.low < shown.value < shown.high


def test_the_ends_are_those_of_the_verdicts() -> None:
    change = change_of(-0.02, 0.01)
    shown = change.interval(0.05, 0.001, 9)
    assert change.middle - math.log(shown.low) < math.log(shown.high) - change.middle  # the stricter end
    limit = change.limit(0.05)
    assert (math.log(shown.low) > limit) == (change.verdict(0.05, 0.05, 0.001) is PASS)


def test_it_passes_where_it_is_worse_by_less_than_the_margin() -> None:
    for middle, direction in [(-0.03, UP), (-0.03, DOWN), (-0.06, DOWN)]:
        change = change_of(middle, 0.005, direction)
        assert (change.worst(0.01) < 0.05) == (change.verdict(0.05, 0.01, 0.01) is PASS)
    assert change_of(0.3, 0.01).worst(0.01) == 0


def test_what_rounds_have_in_common_cancels() -> None:
    slow = in_rounds([50, 100, 25, 80], [50.1, 99.9, 25, 80], UP)
    assert slow is not None and slow.error < 0.001


def test_the_smallest_change_shrinks_with_the_noise() -> None:
    sharp, blunt = change_of(0.0, 0.001), change_of(0.0, 0.05)
    assert 0.05 < sharp.smallest(0.05, 0.01) < 0.06 < blunt.smallest(0.05, 0.01) < 0.4
    assert change_of(0.0, 0.0).smallest(0.05, 0.01) == pytest.approx(0.05)


def test_figures_of_zero_are_compared_as_far_as_that_makes_sense() -> None:
    dead = in_rounds([0, 0, 0], [10, 11, 9], UP)
    assert dead is not None and dead.verdict(0.05, 0.01, 0.01) is FAIL
    assert dead.interval(0.05, 0.05, 3).value == 0
    alike = in_rounds([0, 0, 0], [0, 0, 0], DOWN)
    assert alike is not None and alike.verdict(0.05, 0.01, 0.01) is PASS
    assert in_rounds([1, 0, 0], [0, 0, 0], DOWN) is None


def test_stored_figures_bring_their_own_interval() -> None:
    """Nine equal rounds do not tell whether the machine has changed since."""
    ours, stored = [100.0] * 9, Estimate(100.0, 80.0, 125.0, 3, "1/s")
    change = since_stored(ours, stored, UP)
    assert change is not None and change.verdict(0.05, 0.05, 0.01) is UNDECIDED
    exact = since_stored(ours, Estimate(100.0, 99.9, 100.1, 3, "1/s"), UP)
    assert exact is not None and exact.verdict(0.05, 0.05, 0.01) is PASS
    assert since_stored(ours, Estimate(0.0, 0.0, 0.0, 3, "1/s"), UP) is None


def paired(value: float, low: float, high: float, tolerance: float = 0.0) -> Paired:
    ratio = Estimate(value, low, high, 100, "x")
    return Paired(Estimate(50 * (value - 1), -1, 1, 100, "BLEU"), ratio, 0.01, tolerance)


def test_answers_are_compared_in_pairs() -> None:
    worse, same = of_answers(paired(0.5, 0.45, 0.55), 50, UP), of_answers(paired(1.0, 1.0, 1.0), 50, UP)
    assert worse is not None and worse.verdict(0.05, 0.01, 0.01) is FAIL
    assert same is not None and same.verdict(0.05, 0.01, 0.01) is PASS


def test_a_difference_that_is_noise_counts_as_none() -> None:
    noise = of_answers(paired(0.94, 0.93, 0.95, tolerance=5.0), 50, UP)
    assert noise is not None and noise.middle == 0 and noise.verdict(0.05, 0.01, 0.01) is PASS


def test_answers_without_any_score_are_worse_by_all_of_it() -> None:
    nothing = Paired(Estimate(-50.0, -52.0, -48.0, 100, "BLEU"), None, 0.001)
    change = of_answers(nothing, 50.0, UP)
    assert change is not None and change.verdict(0.05, 0.01, 0.01) is FAIL
    assert of_answers(nothing, 0.0, UP) is None
