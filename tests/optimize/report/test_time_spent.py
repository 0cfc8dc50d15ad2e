"""Overhead of a trial beyond its measurement."""

from dataclasses import asdict

from optimize.ledger import TrialRecord
from optimize.load.pace import Pace
from optimize.outcome import Role, State
from optimize.report.time_spent import costs_of, windows_in_words


def trial(number: int, new_engine: bool, ask_s: float, overhead_s: float, state: str = "completed") -> TrialRecord:
    under_load = {"first_answer": 0.5, "warmup": 3.5, "window": 8.0, "drain": 1.0}
    seconds = {"ask": ask_s, **under_load, "wall": ask_s + 13.0 + overhead_s}
    return TrialRecord("s", number, Role.SEARCH, {}, {}, {}, state=State(state), new_engine=new_engine, seconds=seconds)


def test_overhead_is_neither_the_samplers_time_nor_load() -> None:
    costs = costs_of(
        [
            trial(0, True, 0.5, 3.0), trial(1, True, 1.5, 5.0), trial(2, True, 1.0, 4.0),
            trial(3, False, 2.5, 0.25), trial(4, True, 9.0, 99.0, "infeasible"),
        ]
    )  # fmt: skip
    assert costs is not None
    assert (costs.trials, costs.new_engines) == (4, 3)
    assert (costs.overhead_new_s, costs.overhead_live_s, costs.thinking_s) == (4.0, 0.25, 1.25)
    assert costs.measuring_s == 4 * 13.0
    assert costs.wall_s == 4 * 13.0 + 5.5 + 12.25
    assert (
        "4.0 s with a new engine (3 trials), 0.2 s on a live engine (1 trials), 1.2 s for the sampler"
        in costs.in_words()
    )


def test_missing_kinds_of_trials_are_left_out() -> None:
    costs = costs_of([trial(0, True, 0.5, 3.0)])
    assert costs is not None and costs.overhead_live_s is None
    assert "live" not in costs.in_words() and "cost/overhead_live_s" not in costs.metrics()
    assert costs_of([]) is None
    assert costs_of([trial(0, True, 0.5, 3.0, "failed")]) is None


def test_the_windows_of_a_study_are_told_with_what_closed_them() -> None:
    records = [trial(n, True, 0.5, 3.0) for n in range(3)]
    records[0].seconds["window"], records[2].seconds["window"] = 132.0, 150.0
    assert windows_in_words(records) == "windows: 8 to 150 s long, 132.0 s in the median"
    for record in records:
        record.pace = asdict(Pace(20.0, 120.0, 24, 100, 8.0))
    assert "; 100 answers in at least 8 s were asked for; an answer takes up to 20 s here" in windows_in_words(records)
    assert windows_in_words([trial(0, True, 0.5, 3.0)]).startswith("windows: 8 s long")
    assert windows_in_words([]) == windows_in_words([trial(0, True, 0.5, 3.0, "failed")]) == ""
