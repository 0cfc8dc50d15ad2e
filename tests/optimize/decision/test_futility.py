"""When a trial can come to nothing before it is over."""

import pytest

from objectives import Direction, Estimate
from optimize.decision.constraints import Limit
from optimize.decision.futility import Futility
from optimize.decision.recommendation import Candidate

DIRECTIONS = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE, "bleu": Direction.MAXIMIZE}


def _about(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, 10, "")


def _rival(qps: float, latency_s: float, bleu: float) -> Candidate:
    figures = {"qps": _about(qps, 1), "p99_latency_s": _about(latency_s, 0.1), "bleu": _about(bleu, 1)}
    return Candidate(7, {}, figures, True)


def _seen(qps: float, latency_s: float, half: float = 0.0) -> dict[str, Estimate]:
    return {"qps": _about(qps, 10 * half), "p99_latency_s": _about(latency_s, half)}


KNOWN = {"bleu": _about(70.0, 1.0)}


@pytest.mark.parametrize(
    ("limit", "latency_s", "half", "hopeless"),
    [
        (Limit("p99_latency_s", True, 2.0, False), 2.5, 0.2, True),
        (Limit("p99_latency_s", True, 2.0, False), 2.5, 0.6, False),
        (Limit("p99_latency_s", True, 1.5, True), 2.0, 0.1, True),  # 1.5 times the baseline's second
        (Limit("p99_latency_s", True, 3.0, True), 2.0, 0.1, False),
        (Limit("qps", False, 20.0, False), 1.0, 0.5, True),
        (Limit("ttft_s", True, 0.1, False), 1.0, 0.0, False),  # not seen yet
    ],
)
def test_a_constraint_is_out_of_reach_if_the_best_end_breaks_it(
    limit: Limit, latency_s: float, half: float, hopeless: bool
) -> None:
    futility = Futility([limit], DIRECTIONS, [], {"p99_latency_s": _about(1.0, 0.0)})
    result = futility.hopeless(_seen(10.0, latency_s, half))
    assert (result is not None) is hopeless
    assert result is None or "out of reach" in result


@pytest.mark.parametrize(
    ("qps", "latency_s", "half", "bleu", "hopeless"),
    [
        (8.0, 2.0, 0.0, 75.0, True),
        (8.0, 2.0, 0.3, 75.0, False),  # its rate may be 11, the rival's 9
        (8.0, 0.5, 0.0, 75.0, False),  # better in one
        (8.0, 2.0, 0.0, 71.0, False),  # the rival's quality may be 70, this one's 71
        (9.0, 1.1, 0.0, 72.0, False),  # no better in any at the worst
    ],
)
def test_beaten_means_beaten_in_everything_at_the_best_against_the_worst(
    qps: float, latency_s: float, half: float, bleu: float, hopeless: bool
) -> None:
    futility = Futility([], DIRECTIONS, [_rival(10.0, 1.0, bleu)], {}, KNOWN)
    result = futility.hopeless(_seen(qps, latency_s, half))
    assert result == ("trial 7 is better in every objective" if hopeless else None)


def test_quality_of_the_same_answers_is_no_advantage_of_either() -> None:
    rival = _rival(10.0, 1.0, 70.0)
    futility = Futility([], DIRECTIONS, [rival], {}, {"bleu": rival.estimates["bleu"]})
    assert futility.hopeless(_seen(8.0, 2.0)) == "trial 7 is better in every objective"


def test_a_figure_that_is_missing_may_be_the_best() -> None:
    futility = Futility([], DIRECTIONS, [_rival(100.0, 0.1, 99.0)], {})
    assert futility.hopeless(_seen(1.0, 9.0)) is None


def _ratio(value: float, half: float) -> dict[str, Estimate]:
    return {"bleu": Estimate(value, value - half, value + half, 40, "x")}


@pytest.mark.parametrize(("value", "half", "hopeless"), [(0.9, 0.02, True), (0.9, 0.06, False), (1.02, 0.02, False)])
def test_quality_is_out_of_reach_only_by_the_answers_that_the_baseline_gave_too(
    value: float, half: float, hopeless: bool
) -> None:
    """What it read on few and hard prompts, 60 beside the baseline's 70 on others, does not count."""
    limit, low = Limit("bleu", False, 0.95, True), {"bleu": _about(60.0, 1.0)}
    futility = Futility([limit], DIRECTIONS, [], {"bleu": _about(70.0, 1.0)}, low, _ratio(value, half))
    assert (futility.hopeless({}) is not None) is hopeless


def test_a_bound_that_is_not_relative_looks_at_the_figure() -> None:
    futility = Futility([Limit("bleu", False, 80.0, False)], DIRECTIONS, [], {}, KNOWN, _ratio(1.1, 0.01))
    assert futility.hopeless({}) == "bleu >= 80 is out of reach"


def test_prior_quality_takes_precedence_over_the_figures_so_far() -> None:
    futility = Futility([Limit("bleu", False, 80.0, False)], DIRECTIONS, [], {}, KNOWN)
    assert futility.hopeless({**_seen(1.0, 1.0), "bleu": _about(90.0, 0.0)}) == "bleu >= 80 is out of reach"
