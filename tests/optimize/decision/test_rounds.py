"""Evidence from rounds: differences free of drift, and intervals that keep their word."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from objectives import Direction, Estimate
from optimize.decision.recommendation import AnswerPairs, Candidate, Rounds, recommend

DIRECTIONS = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE}
QPS = {"qps": 1.0}


def _figures(qps: float, latency_s: float = 1.0, own: float = 0.0, **others: float) -> dict[str, Estimate]:
    """`own`: half-width of every interval in logarithms."""
    values = {"qps": qps, "p99_latency_s": latency_s, **others}
    return {n: Estimate(v, v * math.exp(-own), v * math.exp(own), 10, "u") for n, v in values.items()}


def _rounds(table: Sequence[Sequence[float]], own: float = 0.0) -> Rounds:
    """Rates, one row per candidate; the first is the baseline."""
    readings = {n: [_figures(v, own=own) for v in row] for n, row in enumerate(table)}
    return Rounds(readings, 0, DIRECTIONS, QPS)


def _candidate(number: int) -> Candidate:
    return Candidate(number, {}, {}, True, baseline=number == 0)


def test_two_candidates_are_compared_by_the_paired_t_test() -> None:
    table = [[10.0, 11.0, 9.5, 10.4], [12.0, 12.5, 11.9, 12.2]]
    result = _rounds(table).gain(_candidate(1), "qps")
    expected = stats.ttest_rel(np.log(table[1]), np.log(table[0])).confidence_interval(0.95)
    assert (math.log(result.low), math.log(result.high)) == pytest.approx((expected.low, expected.high))
    assert result.n == 4


def test_changes_from_round_to_round_widen_predictions_and_not_gains() -> None:
    table = np.array([[10.0, 10.2, 9.9], [12.0, 12.1, 12.3], [8.0, 8.2, 7.9]])
    drift = np.array([1.0, 0.6, 1.7])
    steady, drifting = _rounds(table.tolist()), _rounds((table * drift).tolist())
    gains = [r.gain(_candidate(1), "qps") for r in (drifting, steady)]
    assert (gains[0].low, gains[0].high) == pytest.approx((gains[1].low, gains[1].high))
    assert _width(drifting.levels(1)["qps"]) > 5 * _width(steady.levels(1)["qps"])


def _width(estimate: Estimate) -> float:
    return math.log(estimate.high / estimate.low)


def test_a_gain_of_a_minimized_objective_is_the_inverse_ratio() -> None:
    readings = {0: [_figures(1, 2.0), _figures(1, 2.2)], 1: [_figures(1, 1.0), _figures(1, 1.1)]}
    assert Rounds(readings, 0, DIRECTIONS, QPS).gain(_candidate(1), "p99_latency_s").value == pytest.approx(2.0)


def test_the_baseline_is_its_own_measure() -> None:
    rounds = _rounds([[10.0, 20.0], [12.0, 9.0]])
    for result in (rounds.gain(_candidate(0), "qps"), rounds.score(_candidate(0))):
        assert (result.value, result.low, result.high) == (1.0, 1.0, 1.0)


def test_intervals_are_no_narrower_than_the_measurements_own_where_rounds_agree_by_luck() -> None:
    table = [[10.0, 10.0, 10.0], [12.0, 12.0, 12.0]]
    assert _width(_rounds(table).gain(_candidate(1), "qps")) == pytest.approx(0.0)
    assert _width(_rounds(table, own=0.1).gain(_candidate(1), "qps")) > 0.1


def test_repeats_on_the_same_sample_are_no_further_evidence() -> None:
    readings = {n: [_figures(10.0, own=0.05)] * 50 for n in (0, 1)}
    same = Rounds(readings, 0, DIRECTIONS, QPS, AnswerPairs(["qps"]))
    assert _width(same.gain(_candidate(1), "qps")) == pytest.approx(2 * math.hypot(0.05, 0.05))
    assert _width(same.levels(1)["qps"]) == pytest.approx(0.1)
    assert _width(Rounds(readings, 0, DIRECTIONS, QPS).gain(_candidate(1), "qps")) < 0.05


def test_no_sampling_stands_between_candidates_with_equal_answers() -> None:
    readings = {n: [_figures(10.0, own=0.05)] * 3 for n in (0, 1, 2)}
    rounds = Rounds(readings, 0, DIRECTIONS, QPS, AnswerPairs(["qps"], {0: "fp16", 1: "fp16", 2: "int8"}))
    assert _width(rounds.gain(_candidate(1), "qps")) == pytest.approx(0.0)
    assert _width(rounds.score(_candidate(1))) == pytest.approx(0.0)
    assert _width(rounds.gain(_candidate(2), "qps")) == pytest.approx(2 * math.hypot(0.05, 0.05))


def test_pairs_of_answers_take_the_place_of_two_figures_on_different_prompts() -> None:
    """Read as 5 % worse, on harder prompts: on those that both answered it is 1 % better."""
    readings = {0: [_figures(10.0, own=0.1)] * 3, 1: [_figures(9.5, own=0.1)] * 3, 2: [_figures(9.0, own=0.1)] * 3}
    ratios = {n: {"qps": Estimate(v, v * 0.99, v / 0.99, 40, "x")} for n, v in ((1, 1.01), (2, 0.97))}
    rounds = Rounds(readings, 0, DIRECTIONS, QPS, AnswerPairs(["qps"], ratios=ratios))
    gain = rounds.gain(_candidate(1), "qps")
    assert gain.value == pytest.approx(1.01) and _width(gain) == pytest.approx(2 * math.log(1 / 0.99))
    assert rounds.score(_candidate(1)).value == pytest.approx(1.01)
    assert not rounds.tied(_candidate(1), _candidate(2))
    assert rounds.levels(1)["qps"].value == pytest.approx(9.5)  # what it read stays what it read
    apart = Rounds(readings, 0, DIRECTIONS, QPS, AnswerPairs(["qps"]))
    assert apart.gain(_candidate(1), "qps").value == pytest.approx(0.95) and apart.tied(_candidate(1), _candidate(2))


def test_a_contrast_is_free_of_changes_from_round_to_round() -> None:
    drift = [1.0, 0.5, 3.0]
    table = [[level * d for d in drift] for level in (10, 20, 9, 27)]
    rounds = _rounds(table)
    ratio, more = rounds.contrast("qps", {1: 1, 0: -1}), rounds.contrast("qps", {3: 1, 2: -1, 1: -1, 0: 1})
    assert (ratio.value, ratio.low, more.value) == pytest.approx((2.0, 2.0, 1.5))


def test_counts_may_be_zero() -> None:
    readings = {n: [_figures(10.0, preemptions=c) for c in (0.0, 4.0)] for n in (0, 1)}
    rounds = Rounds(readings, 0, {**DIRECTIONS, "preemptions": Direction.MINIMIZE}, QPS)
    level = rounds.levels(1)["preemptions"]
    assert (level.value, level.low) == (2.0, 0.0)
    assert rounds.gain(_candidate(1), "preemptions").value == 0.0


def test_a_figure_that_some_candidates_lack_is_compared_among_the_others() -> None:
    readings = {0: [_figures(10.0, ttft_s=0.1)] * 2, 1: [_figures(12.0)] * 2, 2: [_figures(9.0, ttft_s=0.2)] * 2}
    rounds = Rounds(readings, 0, DIRECTIONS, QPS)
    assert "ttft_s" not in rounds.levels(1)
    assert rounds.levels(2)["ttft_s"].value == pytest.approx(0.2)


def test_objectives_that_move_together_do_not_make_the_score_surer() -> None:
    """A fast round has both a high rate and low latencies: as independent figures they would look like two proofs."""
    rng = np.random.default_rng(0)
    speed = np.exp(rng.normal(0, 0.1, (2, 6)))
    readings = {n: [_figures(10 * s, 1 / s) for s in speed[n]] for n in (0, 1)}
    both = Rounds(readings, 0, DIRECTIONS, {"qps": 1.0, "p99_latency_s": 1.0})
    assert _width(both.score(_candidate(1))) == pytest.approx(_width(both.gain(_candidate(1), "qps")))


def test_candidates_are_tied_unless_their_rounds_tell_them_apart() -> None:
    rounds = _rounds([[10.0, 10.1, 9.9], [12.0, 12.1, 12.0], [12.1, 12.0, 12.1], [14.0, 14.1, 14.2]])
    assert rounds.tied(_candidate(1), _candidate(2))
    assert not rounds.tied(_candidate(1), _candidate(3))


def test_a_recommendation_rests_on_the_rounds() -> None:
    rounds = _rounds([[10.0, 10.1, 9.9], [12.0, 12.1, 12.0], [11.0, 11.1, 10.9]])
    candidates = [Candidate(n, {}, rounds.levels(n), True, baseline=n == 0) for n in (0, 1, 2)]
    result = recommend(candidates, {"qps": Direction.MAXIMIZE}, QPS, rounds)
    assert result is not None
    assert (result.pick.number, result.rounds, result.decisive) == (1, 3, True)
    assert result.score == rounds.score(candidates[1])


def test_intervals_of_gains_and_of_further_measurements_have_their_nominal_coverage() -> None:
    """Three candidates and a baseline in three rounds, on a machine that drifts by 10 % and is noisy by 5 %."""
    rng, covered, contained, averaged, runs = np.random.default_rng(1), 0, 0, 0, 1000
    true_gain = 1.3
    for _ in range(runs):
        drift = rng.normal(0, 0.10, 4)
        y = rng.normal(0, 0.05, (4, 4)) + drift + math.log(10)
        y[1] += math.log(true_gain)
        rounds = _rounds(np.exp(y[:, :3]).tolist())
        gain, level = rounds.gain(_candidate(1), "qps"), rounds.levels(1)["qps"]
        covered += gain.low <= true_gain <= gain.high
        contained += level.low <= math.exp(y[1, 3]) <= level.high
        mean = rounds.means(1)["qps"]
        averaged += mean.low <= true_gain * 10 * math.exp(drift[3]) <= mean.high
    assert 0.93 <= covered / runs <= 0.97
    assert 0.92 <= contained / runs <= 0.98
    assert 0.92 <= averaged / runs <= 0.98


def test_many_engines_on_a_steady_machine_are_known_as_well_as_their_mean() -> None:
    """What each measurement has for itself cancels out; what a round has in common does not."""
    rng, contained, ratios = np.random.default_rng(2), [], []
    for _ in range(400):
        rounds = _rounds(np.exp(rng.normal(math.log(10), 0.2, (4, 3))).tolist())
        mean, level = rounds.means(1)["qps"], rounds.levels(1)["qps"]
        contained.append(mean.low <= 10 <= mean.high)
        ratios.append(_width(mean) / _width(level))
        assert mean.value == level.value
    assert 0.93 <= np.mean(contained) <= 0.99
    assert np.median(ratios) < 0.7  # half, if it were known that the machine is steady


def test_a_further_measurement_on_a_machine_that_stays_slow_for_longer_than_the_rounds_take() -> None:
    """Speeds of three rounds that hardly differ, those of the search and of whoever measures later by 10 %."""
    rng, contained, runs = np.random.default_rng(1), {True: 0, False: 0}, 1000
    for _ in range(runs):
        y = rng.normal(0, 0.05, (4, 5)) + math.log(10)
        y[:, 1:4] += rng.normal(0, 0.10) + rng.normal(0, 0.02, 3)
        y[:, 0] += rng.normal(0, 0.10, 4)  # each read at a time of its own
        readings = {n: [_figures(v) for v in np.exp(row[1:4])] for n, row in enumerate(y)}
        earlier = {n: _figures(math.exp(row[0])) for n, row in enumerate(y)}
        later = math.exp(y[1, 4] + rng.normal(0, 0.10))
        for with_earlier in contained:
            level = Rounds(readings, 0, DIRECTIONS, QPS, earlier=earlier if with_earlier else None).levels(1)["qps"]
            contained[with_earlier] += level.low <= later <= level.high
    assert contained[False] / runs < 0.8
    assert 0.93 <= contained[True] / runs <= 0.99


def test_readings_before_the_rounds_move_no_level_and_no_gain() -> None:
    table = [[10.0, 11.0, 9.5], [12.0, 12.5, 11.9]]
    readings = {n: [_figures(v) for v in row] for n, row in enumerate(table)}
    with_it = Rounds(readings, 0, DIRECTIONS, QPS, earlier={0: _figures(20.0)})
    assert with_it.gain(_candidate(1), "qps") == _rounds(table).gain(_candidate(1), "qps")
    level = with_it.levels(1)["qps"]
    assert level.value == _rounds(table).levels(1)["qps"].value
    assert level.high > 20 > _rounds(table).levels(1)["qps"].high


def test_earlier_readings_that_lack_a_figure_leave_its_interval_as_it_is() -> None:
    table = [[10.0, 11.0, 9.5], [12.0, 12.5, 11.9], [8.0, 8.2, 7.9]]
    readings = {n: [_figures(v) for v in row] for n, row in enumerate(table)}
    lacking = Rounds(readings, 0, DIRECTIONS, QPS, earlier={0: {"bleu": Estimate(1, 1, 1, 1, "")}})
    assert lacking.levels(1) == _rounds(table).levels(1)


def test_a_candidate_that_scatters_more_than_the_others_speaks_for_itself() -> None:
    """As the peak memory of INT8 engines, which is another with every engine, beside that of FP16."""
    rng, contained, covered, runs = np.random.default_rng(1), 0, 0, 1000
    for _ in range(runs):
        y = rng.normal(0, np.array([[0.01], [0.3], [0.01]]), (3, 4)) + math.log(10)
        result = _rounds(np.exp(y[:, :3]).tolist())
        level, gain = result.levels(1)["qps"], result.gain(_candidate(1), "qps")
        contained += level.low <= math.exp(y[1, 3]) <= level.high
        covered += gain.low <= 1 <= gain.high
    assert 0.93 <= contained / runs <= 0.98
    assert 0.93 <= covered / runs <= 0.98


def test_against_another_candidate_is_the_inverse_of_the_gain() -> None:
    rounds = _rounds([[10.0, 11.0, 9.5], [12.0, 12.5, 11.9], [8.0, 8.4, 7.7]])
    forth = rounds.relative_to(2).gain(_candidate(1), "qps")
    back = rounds.relative_to(1).gain(_candidate(2), "qps")
    assert forth.value == pytest.approx(1 / back.value)
    assert (forth.low, forth.high) == pytest.approx((1 / back.high, 1 / back.low))
