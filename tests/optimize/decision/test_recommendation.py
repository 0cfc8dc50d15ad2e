"""From measured candidates to a pick, its runner-up and how sure that is."""

import math
import random
from collections.abc import Mapping

import pytest

from objectives import Direction, Estimate
from optimize.decision.recommendation import Candidate, Recommendation, SingleReadings, recommend

DIRECTIONS = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE}
EVEN = {"qps": 1.0, "p99_latency_s": 1.0}


def _candidate(
    number: int,
    qps: float,
    latency_s: float,
    spread: float = 0.0,
    feasible: bool = True,
    baseline: bool = False,
) -> Candidate:
    """`spread`: half-width of both intervals as a factor, 0.1 for 10 % up and down in logarithms."""
    figures = {
        name: Estimate(v, v * math.exp(-spread), v * math.exp(spread), 20 + number, "")
        for name, v in (("qps", qps), ("p99_latency_s", latency_s))
    }
    return Candidate(number, {"batch_size": number}, figures, feasible, baseline)


BASELINE = _candidate(0, 10.0, 2.0, baseline=True)


def score(candidate: Candidate, baseline: Candidate, weights: Mapping[str, float]) -> Estimate:
    return SingleReadings(baseline, DIRECTIONS, weights).score(candidate)


def _recommend(*candidates: Candidate, weights: Mapping[str, float] = EVEN) -> Recommendation:
    result = recommend([BASELINE, *candidates], DIRECTIONS, weights)
    assert result is not None
    return result


def test_score_is_the_weighted_geometric_mean_of_gains() -> None:
    twice_and_four_times = _candidate(1, 20.0, 0.5)
    result = score(twice_and_four_times, BASELINE, {"qps": 1, "p99_latency_s": 3})
    assert result.value == pytest.approx(2 ** (1 / 4) * 4 ** (3 / 4))
    assert (result.low, result.high) == pytest.approx((result.value, result.value))


def test_score_of_the_baseline_is_exactly_one() -> None:
    noisy = _candidate(0, 10.0, 2.0, spread=0.5, baseline=True)
    result = score(noisy, noisy, EVEN)
    assert (result.value, result.low, result.high) == (1.0, 1.0, 1.0)


def test_only_ratios_of_weights_matter_and_only_of_objectives() -> None:
    candidate = _candidate(1, 15.0, 1.5)
    expected = score(candidate, BASELINE, {"qps": 1, "p99_latency_s": 2}).value
    weights = {"qps": 5, "p99_latency_s": 10, "bleu": 100}
    assert score(candidate, BASELINE, weights).value == pytest.approx(expected)


def test_half_widths_add_in_squares() -> None:
    baseline, candidate = _candidate(0, 10.0, 2.0, 0.04, baseline=True), _candidate(1, 20.0, 1.0, 0.03)
    result = SingleReadings(baseline, DIRECTIONS, EVEN).gain(candidate, "qps")
    assert (result.value, result.low, result.high) == pytest.approx((2.0, 2 * math.exp(-0.05), 2 * math.exp(0.05)))
    assert result.n == 20
    total = score(candidate, baseline, EVEN)
    half = math.hypot(0.5 * 0.05, 0.5 * 0.05)
    assert (total.low, total.high) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)))


@pytest.mark.parametrize(("qps", "latency_s"), [(0.0, 1.0), (5.0, 0.0)])
def test_a_figure_of_zero_has_no_ratio_and_scores_nothing(qps: float, latency_s: float) -> None:
    assert score(_candidate(1, qps, latency_s), BASELINE, EVEN).value == 0.0


def test_an_interval_down_to_zero_is_wide_and_finite() -> None:
    figures = {**BASELINE.estimates, "qps": Estimate(10.0, 0.0, 20.0, 5, "")}
    result = score(Candidate(1, {}, figures, True), BASELINE, EVEN)
    assert 0 < result.low < 0.7 < result.value < result.high < math.inf


def test_weights_decide_between_trade_offs() -> None:
    fast, strong = _candidate(1, 8.0, 0.5), _candidate(2, 50.0, 3.0)
    assert _recommend(fast, strong, weights={"qps": 4, "p99_latency_s": 1}).pick is strong
    chosen = _recommend(fast, strong, weights={"qps": 1, "p99_latency_s": 4})
    assert chosen.pick is fast
    assert chosen.runner_up is BASELINE
    assert list(chosen.front) == [fast, BASELINE, strong]


def test_dominated_candidates_are_neither_picked_nor_runner_up() -> None:
    best, behind = _candidate(1, 30.0, 1.0), _candidate(2, 29.0, 1.1)
    result = _recommend(best, behind)
    assert (result.pick, result.runner_up, list(result.front)) == (best, None, [best])


def test_infeasible_candidates_do_not_count_however_good() -> None:
    result = _recommend(_candidate(1, 1000.0, 0.1, feasible=False), _candidate(2, 12.0, 1.9))
    assert result.pick.number == 2


def test_the_pick_has_a_gain_for_every_objective() -> None:
    gains = _recommend(_candidate(1, 30.0, 1.0), weights={"qps": 1.0}).gains
    assert {name: e.value for name, e in gains.items()} == pytest.approx({"qps": 3.0, "p99_latency_s": 2.0})


def test_baseline_that_breaks_a_bound_still_measures_the_others() -> None:
    baseline = _candidate(0, 10.0, 9.0, feasible=False, baseline=True)
    result = recommend([baseline, _candidate(1, 5.0, 1.0)], DIRECTIONS, EVEN)
    assert result is not None
    assert result.pick.number == 1
    assert result.score.value == pytest.approx(math.sqrt(0.5 * 9))


def test_without_baseline_or_anything_feasible_there_is_no_recommendation() -> None:
    assert recommend([], DIRECTIONS, EVEN) is None
    assert recommend([_candidate(1, 1.0, 1.0)], DIRECTIONS, EVEN) is None
    infeasible = _candidate(0, 1.0, 1.0, feasible=False, baseline=True)
    assert recommend([infeasible], DIRECTIONS, EVEN) is None


@pytest.mark.parametrize(("spread", "decisive"), [(0.05, True), (0.5, False)])
def test_better_than_the_defaults_only_if_the_interval_says_so(spread: float, decisive: bool) -> None:
    assert _recommend(_candidate(1, 12.0, 1.6, spread)).decisive is decisive


@pytest.mark.parametrize(("spread", "tied"), [(0.01, False), (0.2, True)])
def test_pick_and_runner_up_are_tied_where_intervals_overlap(spread: float, tied: bool) -> None:
    result = _recommend(_candidate(1, 40.0, 1.0, spread), _candidate(2, 28.0, 0.8, spread))
    assert result.pick.number == 1
    assert result.tied is tied


def test_nothing_beats_the_defaults() -> None:
    result = _recommend(_candidate(1, 9.0, 2.5))
    assert result.pick is BASELINE
    assert not result.decisive
    assert not result.tied


def test_pick_has_the_best_score_of_all_feasible_candidates() -> None:
    rng = random.Random(0)
    for _ in range(50):
        others = [
            _candidate(i, rng.uniform(1, 50), rng.uniform(0.1, 5), feasible=rng.random() < 0.7) for i in range(1, 20)
        ]
        weights = {"qps": rng.uniform(0.1, 5), "p99_latency_s": rng.uniform(0.1, 5)}
        result = _recommend(*others, weights=weights)
        scores = [score(c, BASELINE, weights).value for c in (BASELINE, *others) if c.feasible]
        assert result.score.value == max(scores)
