"""The race: when a share is reached, and what may be said of how much faster."""

from __future__ import annotations

from benchmarks.ground_truth import as_estimates, table
from benchmarks.race import seconds_to, trials_by_own_readings, verdict
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State


def test_a_share_is_reached_by_the_trial_that_completes_it() -> None:
    best = sorted(table().feasible)
    result = [(10.0 * number, key) for number, key in enumerate(best, start=1)]
    seconds, trials = seconds_to(1.0, result) or (0.0, 0)
    assert seconds == 10.0 * trials and 1 < trials <= len(best)
    assert table().hypervolume(best[: trials - 1]) < table().best * (1 - 1e-9)
    assert seconds_to(1.0, result[:1]) is None


def test_a_search_that_never_reached_the_share_is_compared_by_its_duration() -> None:
    assert "more than 5.5 times faster" in verdict((100.0, 20), None, 550.0)
    assert "is 7.0 times faster" in verdict((100.0, 20), (700.0, 60), 900.0)


def _read(qps: float, feasible: bool = True) -> TrialRecord:
    figures = as_estimates({"qps": qps, "p99_latency_s": 1 / qps, "memory_bytes": 1.0, "bleu": 70.0})
    result = figures if feasible else {}
    return TrialRecord("race", 0, Role.SEARCH, {}, {}, {}, state=State.COMPLETED, estimates=result, feasible=feasible)


def test_by_own_readings_the_share_is_reached_by_the_trial_after_which_little_is_added() -> None:
    none, slow, fast, faster = _read(1.0, feasible=False), _read(1.0), _read(9.9), _read(10.0)
    assert trials_by_own_readings(0.95, [none, slow, fast, faster]) == 3
    assert trials_by_own_readings(1.0, [none, slow, fast, faster, slow]) == 4
    assert trials_by_own_readings(0.95, [none]) is None
