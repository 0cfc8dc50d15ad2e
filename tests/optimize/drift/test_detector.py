"""The detector of a share that exceeds its bound: its guarantee, its delay, its estimate of when."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom

from optimize.drift.detector import REQUESTS_MOST, Detector, first_alarm, threshold, widened


def expectation(bound: float, share: float, n: int, groups_of: int = 1, together: float = 1.0) -> float:
    """Of the detector's first step, where requests come in groups of `groups_of` that are alike."""
    total = 0.0
    for hits in range(n // groups_of + 1):
        weight = float(binom.pmf(hits, n // groups_of, share))
        total += weight * math.exp(Detector(bound, together).add(60.0, hits * groups_of, n))
    return total


@pytest.mark.parametrize("bound", [0.01, 0.3, 0.5, 0.97])
def test_without_a_change_its_expectation_is_at_most_1(bound: float) -> None:
    assert expectation(bound, bound, 20) == pytest.approx(1.0)
    assert expectation(bound, bound * 0.8, 20) < 1.0
    assert expectation(bound, min(1.5 * bound, 0.99), 20) > 1.0


def test_requests_that_come_together_are_allowed_for() -> None:
    assert expectation(0.3, 0.3, 32, groups_of=4, together=4) == pytest.approx(1.0)
    assert expectation(0.3, 0.3, 32, groups_of=4) > 1.5  # not allowed for
    assert expectation(0.3, 0.3, int(REQUESTS_MOST) * 8, groups_of=8, together=4) == pytest.approx(1.0)


def test_a_change_is_dated_and_proved() -> None:
    before = [(60.0 * i, 6.0, 30.0) for i in range(500)]
    after = [(60.0 * i, 18.0, 30.0) for i in range(500, 600)]
    alarm = first_alarm(Detector(0.3), [*before, *after], threshold(20, 144_000))
    assert alarm is not None and alarm.since == before[-1][0]
    assert 1 <= (alarm.at - alarm.since) / 60 <= 6
    assert first_alarm(Detector(0.3), before, threshold(20, 144_000)) is None


def test_a_vote_for_each_minute_takes_less_than_half_an_hour() -> None:
    alarm = first_alarm(Detector(0.5), [(60.0 * i, 1.0, 1.0) for i in range(100)], threshold(20, 144_000))
    assert alarm is not None and alarm.at == 60.0 * 24


def test_more_claims_and_fewer_false_alarms_ask_for_more_evidence() -> None:
    assert threshold(1, 100) < threshold(2, 100) == threshold(1, 200)


def test_a_margin_is_one_of_odds() -> None:
    assert widened(0.5, 1.0) == pytest.approx(2 / 3)
    assert (widened(0.0, 1.0), widened(1.0, 1.0)) == (0.0, 1.0)


def test_readings_without_requests_say_nothing() -> None:
    detector = Detector(0.5)
    detector.add(60.0, 20.0, 20.0)
    assert detector.add(120.0, 0.0, 0.0) == detector.log
