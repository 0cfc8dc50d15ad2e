"""Limits that follow from the pace of the baseline."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from objectives import RequestRecord
from optimize.config.measuring import Iterations, Load
from optimize.load.pace import Effort, Limits, Pace, is_stalled, pace_of

SLOW, QUICK = Pace(answer_s=20.0, window_s=120.0, answers=24), Pace(answer_s=0.4, window_s=4.0, answers=40)


def limits(pace: Pace | None = None, **load: Any) -> Limits:
    return Limits(Load(arrivals=None, **load), pace)


def answers(*latencies_s: float) -> list[RequestRecord]:
    return [RequestRecord(0, 0.0, 0.0, None, latency_s, 1, 1, "a") for latency_s in latencies_s]


def test_a_quick_baseline_leaves_every_limit_at_its_shortest() -> None:
    quick = limits(QUICK)
    assert (quick.warmup_s([]), quick.window_s, quick.drain_s([]), quick.request_s) == (15.0, 15.0, 15.0, 60.0)
    assert quick.silence_s == 180.0


def test_a_slow_baseline_lengthens_every_limit() -> None:
    slow = limits(SLOW)
    assert (slow.warmup_s([]), slow.window_s, slow.drain_s([]), slow.request_s) == (40.0, 240.0, 60.0, 200.0)
    assert slow.silence_s == 200.0


@pytest.mark.parametrize("pace", [None, SLOW, QUICK])
def test_what_the_user_sets_holds_whatever_the_pace_is(pace: Pace | None) -> None:
    fixed = limits(pace, warmup_max_s=2.0, window_max_s=3.0, drain_max_s=4.0, request_timeout_s=5.0)
    slow = answers(50.0)
    assert (fixed.warmup_s(slow), fixed.window_s, fixed.drain_s(slow), fixed.request_s) == (2.0, 3.0, 4.0, 5.0)
    assert fixed.precise_s == 3.0


def test_the_baseline_is_measured_as_long_as_it_takes_by_its_own_first_answers() -> None:
    assert limits().window_s == math.inf and limits().request_s == 86400.0
    growing = answers(*range(1, 100))
    assert limits().warmup_s(growing) == 32.0 and limits().drain_s(growing) == 48.0  # of the first sixteen


@pytest.mark.parametrize(
    ("count", "window_s", "load", "enough"),
    [
        (100, 7.9, {}, False),
        (100, 8.0, {}, True),
        (99, 119.0, {}, False),
        (20, 120.0, {}, True),
        (19, 500.0, {}, False),
        (99, 500.0, {"window_max_s": 600.0}, False),
        (99, 500.0, {"iterations": Iterations(measured=100)}, False),
        (20, 150.0, {"window_min_s": 200.0}, False),
    ],
)
def test_a_window_is_long_enough_by_its_answers(
    count: int, window_s: float, load: dict[str, Any], enough: bool
) -> None:
    assert limits(**load).has_enough(count, window_s) is enough


def test_the_pace_of_a_window_is_its_longest_answer_and_the_time_of_the_answers_that_it_needed() -> None:
    load = Load(arrivals=None, window_requests=40, window_min_s=4.0)
    assert pace_of(answers(*[0.1] * 79, 0.3), 8.0, load) == Pace(0.3, 4.0, 40, 40, 4.0)
    assert pace_of(answers(20.0, 21.0), 50.0, load) == Pace(21.0, 50.0, 2, 40, 4.0)
    assert pace_of([], 8.0, load) is None


@pytest.mark.parametrize(
    ("pace", "longest_s", "words"),
    [
        (Pace(0.3, 4.0, 40, 40, 4.0), 4.2, "40 answers in at least 4 s were asked for"),
        (Pace(0.3, 6.0, 40, 40, 4.0), 6.0, "; a longer window waited for them, or for narrow enough intervals"),
        (Pace(20.0, 120.0, 24, 100, 8.0), 132.0, "100 answers in at least 8 s were asked for; an answer takes up to "
         "20 s here, so 20 of them in 120 s are enough (load.window_max_s=SECONDS waits for all)"),
    ],
)  # fmt: skip
def test_a_window_says_what_closed_it_and_why_it_was_long(pace: Pace, longest_s: float, words: str) -> None:
    assert pace.in_words(longest_s).endswith(words)


def test_the_pace_of_an_earlier_version_does_not_say_what_was_asked_for() -> None:
    assert SLOW.in_words(120.0) == ""


def test_a_pace_is_read_back_as_it_was_stored() -> None:
    assert Pace.from_dict({"answer_s": 20.0, "window_s": 120.0, "answers": 24}) == SLOW
    assert Pace.from_dict({}) is None
    assert Pace.from_dict(asdict(Pace(20.0, 120.0, 24, 100, 8.0))) == Pace(20.0, 120.0, 24, 100, 8.0)


@pytest.mark.parametrize(
    ("silent_s", "effort", "stalled"),
    [
        (179.0, Effort(), False),
        (180.0, Effort(), True),
        (900.0, Effort(tokens=1.0), False),
        (180.0, Effort(cpu_s=180.0), True),
        (900.0, Effort(cpu_s=90.0), False),  # kept from the processors
        (900.0, Effort(cpu_s=1.0), True),  # asks for none
    ],
)
def test_an_engine_without_answers_is_stalled_unless_it_makes_progress(
    silent_s: float, effort: Effort, stalled: bool
) -> None:
    assert is_stalled(silent_s, 180.0, effort) is stalled
