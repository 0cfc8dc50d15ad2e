"""The time that a study is expected to take, beside the time that recorded ones took."""

from __future__ import annotations

import itertools
import time

import pytest

from optimize.driver.forecast import Forecast, about, clock_at, measurements
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State

# A chat study on two cores, 2026-11-28: role, seconds of the start, of the whole trial, and until the next one began.
RECORDED: list[tuple[Role, float, float, float]] = [
    (Role.BASELINE, 0.2, 11.2, 11.5),
    *((Role.SEARCH, *seconds) for seconds in [
        (1.1, 9.6, 9.9), (1.1, 10.5, 10.7), (1.0, 16.9, 17.2), (1.0, 9.9, 10.0), (0.8, 19.5, 19.8), (1.1, 10.6, 11.2),
        (1.1, 14.8, 15.0), (1.2, 10.8, 11.1), (1.4, 18.0, 18.2), (1.1, 18.0, 18.1), (1.3, 10.9, 11.2),
        (1.1, 10.6, 10.9),
        (1.1, 12.4, 12.5), (1.2, 10.8, 11.1), (0.0, 16.2, 16.4), (1.1, 10.6, 10.9), (1.1, 7.6, 7.9), (1.1, 19.9, 20.5),
        (1.1, 10.7, 11.0), (1.1, 10.7, 11.0), (1.1, 8.9, 9.2), (1.3, 8.4, 8.7), (1.1, 18.0, 18.2), (1.1, 10.7, 11.0),
    ]),
    *((Role.CONFIRMATION, *seconds) for seconds in [
        (1.1, 10.6, 10.8), (1.1, 10.5, 10.7), (1.2, 10.6, 10.9), (1.1, 7.7, 8.0), (1.1, 7.6, 7.9), (1.0, 10.4, 10.7),
        (1.2, 10.5, 10.8), (1.1, 10.4, 10.7), (1.1, 10.9, 11.1), (1.4, 16.9, 17.2), (1.1, 7.4, 7.7), (1.0, 10.5, 10.7),
    ]),
]  # fmt: skip


def record(
    role: Role, start_s: float, total_s: float, state: State = State.COMPLETED, cut_short: str = ""
) -> TrialRecord:
    return TrialRecord(
        "s", 0, role, {}, {}, {}, state, cut_short=cut_short, new_engine=start_s > 0.5,
        seconds={"engine_start": start_s, "total": total_s},
    )  # fmt: skip


def test_the_end_of_a_recorded_study_is_foretold_within_thirty_percent() -> None:
    """The remaining time from the fifth trial to the search's end, and the whole time at every trial."""
    forecast, whole_s = Forecast(25, measurements(3, 3, 24)), sum(wall_s for *_, wall_s in RECORDED)
    elapsed = itertools.accumulate(wall_s for *_, wall_s in RECORDED)
    for number, ((role, start_s, total_s, _), elapsed_s) in enumerate(zip(RECORDED, elapsed, strict=True)):
        forecast.add(record(role, start_s, total_s), role is not Role.CONFIRMATION)
        remaining_s = forecast.remaining_s(confirming=number >= 24)
        assert remaining_s is not None
        assert elapsed_s + remaining_s == pytest.approx(whole_s, rel=0.3)
        if 5 <= number <= 24:
            assert remaining_s == pytest.approx(whole_s - elapsed_s, rel=0.3)
    assert remaining_s == 0


def test_a_confirmation_starts_an_engine_for_each_measurement_and_cuts_none_short() -> None:
    forecast = Forecast(11, 12)
    forecast.add(record(Role.BASELINE, 60.0, 70.0), True)
    forecast.add(record(Role.SEARCH, 0.0, 10.0), True)  # on the live engine
    forecast.add(record(Role.SEARCH, 0.0, 4.0, cut_short="beaten"), True)
    assert forecast.search_s() == pytest.approx(8 * 7.0)
    assert forecast.confirmation_s() == pytest.approx(12 * 70.0)


def test_trials_side_by_side_share_the_time() -> None:
    one, four = (Forecast(9, 12, slots) for slots in (1, 4))
    for forecast in (one, four):
        forecast.add(record(Role.BASELINE, 2.0, 10.0), True)
    assert one.remaining_s(False) == pytest.approx(4 * (four.remaining_s(False) or 0)) == pytest.approx(200.0)


def test_the_minutes_bound_the_search_and_not_the_confirmation() -> None:
    forecast = Forecast(25, 12)
    assert forecast.remaining_s(False) is None
    forecast.add(record(Role.BASELINE, 2.0, 10.0), True)
    assert forecast.remaining_s(False, search_left_s=60.0) == pytest.approx(60.0 + 120.0)
    assert forecast.remaining_s(True, search_left_s=-5.0) == pytest.approx(120.0)


def test_a_trial_that_failed_is_still_to_be_done() -> None:
    forecast = Forecast(2, 12)
    forecast.add(record(Role.SEARCH, 2.0, 10.0, State.FAILED), False)
    forecast.add(record(Role.CONFIRMATION, 2.0, 10.0, State.FAILED), False)
    assert (forecast.done, forecast.confirmed) == (0, 0)


def test_a_confirmation_has_at_most_as_many_candidates_as_there_are_trials() -> None:
    assert [measurements(3, 3, 24), measurements(3, 3, 1), measurements(0, 3, 24), measurements(3, 3, 0)] == [
        12,
        6,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(20, "about a minute"), (1500, "about 25 minutes"), (9000, "about 2.5 hours")]
)
def test_a_duration_is_told_as_people_say_it(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_an_end_on_another_day_names_the_day() -> None:
    now = time.mktime((2026, 11, 28, 14, 0, 0, 0, 0, -1))
    assert clock_at(now + 1920, now) == "14:32"
    assert clock_at(now + 86400, now) == f"{time.strftime('%a', time.localtime(now + 86400))} 14:00"
