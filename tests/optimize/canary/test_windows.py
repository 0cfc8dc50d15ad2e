"""Windows in which every request is mirrored, on a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass

from optimize.canary.windows import Place, Windows

ALONE, MIRRORED, COUNTED = Place(False, False), Place(True, False), Place(True, True)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def windows(share: float = 0.1, window_s: float = 10.0) -> tuple[Windows, Clock]:
    clock = Clock()
    opened = Windows(share, window_s, clock)
    opened.begin()
    return opened, clock


def test_nothing_is_mirrored_before_the_first_window_is_opened() -> None:
    assert Windows(1.0, 10.0, Clock()).enter(True) == ALONE


def test_pairs_count_once_the_serving_engine_is_busy_with_mirrored_requests_alone() -> None:
    opened, _ = windows()
    before = opened.enter(False)
    filling = opened.enter(True)
    assert (before, filling) == (ALONE, MIRRORED)
    opened.leave(before)
    assert opened.enter(True) == COUNTED


def test_a_request_that_cannot_be_mirrored_interrupts_the_counting() -> None:
    opened, _ = windows()
    other = opened.enter(False)
    assert opened.enter(True) == MIRRORED
    opened.leave(other)
    assert opened.enter(True) == COUNTED


def test_mirroring_goes_on_until_all_pairs_of_a_window_are_complete() -> None:
    opened, clock = windows()
    pair = opened.enter(True)
    clock.now = 11
    after = opened.enter(True)
    assert (pair, after) == (COUNTED, MIRRORED)
    opened.leave(after)
    assert opened.enter(True) == MIRRORED
    clock.now = 12
    opened.leave(pair)
    assert opened.enter(True) == ALONE


def test_the_share_of_the_time_is_kept() -> None:
    opened, clock = windows(share=0.25)
    mirrored = 0
    for second in range(4000):
        clock.now = second / 10
        place = opened.enter(True)
        mirrored += place.mirrored
        opened.leave(place)
    assert 0.23 < mirrored / 4000 < 0.29  # the last window may be open


def test_with_a_share_of_one_everything_is_compared() -> None:
    opened, clock = windows(share=1.0, window_s=1.0)
    for second in range(50):
        clock.now = second
        place = opened.enter(True)
        assert place == COUNTED
        opened.leave(place)


def test_a_window_that_other_requests_never_leave_alone_is_given_up() -> None:
    opened, clock = windows(window_s=1.0)
    opened.enter(False)
    assert opened.enter(True) == MIRRORED
    clock.now = 31
    assert opened.enter(True) == ALONE
