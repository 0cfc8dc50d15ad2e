"""The race: when a share is reached, and what may be said of how much faster."""

from __future__ import annotations

from benchmarks.race import seconds_to, verdict
from benchmarks.truth import table


def test_a_share_is_reached_by_the_trial_that_completes_it() -> None:
    best = sorted(table().feasible)
    found = [(10.0 * number, key) for number, key in enumerate(best, start=1)]
    seconds, trials = seconds_to(1.0, found) or (0.0, 0)
    assert seconds == 10.0 * trials and 1 < trials <= len(best)
    assert table().hypervolume(best[: trials - 1]) < table().best * (1 - 1e-9)
    assert seconds_to(1.0, found[:1]) is None


def test_one_that_never_got_there_is_compared_by_how_long_it_ran() -> None:
    assert "more than 5.5 times faster" in verdict((100.0, 20), None, 550.0)
    assert "is 7.0 times faster" in verdict((100.0, 20), (700.0, 60), 900.0)
