"""How many engines at a time are limit, by what the guard found."""

from optimize.executor.concurrency import ConcurrencyLimit


def test_undisturbed_measurements_change_nothing() -> None:
    concurrency = ConcurrencyLimit(4)
    assert [concurrency.observe(3, disturbed=False) for _ in range(20)] == [""] * 20
    assert concurrency.limit == 4


def test_one_engine_less_where_most_measurements_are_disturbed() -> None:
    concurrency = ConcurrencyLimit(2)
    notes = [concurrency.observe(1, disturbed=True) for _ in range(4)]
    assert notes[:3] == ["", "", ""]
    assert "4 of the last 4 measurements" in notes[3] and "1 at a time" in notes[3]
    assert concurrency.limit == 1


def test_a_measurement_that_ran_alone_does_not_count() -> None:
    concurrency = ConcurrencyLimit(2)
    for _ in range(10):
        concurrency.observe(0, disturbed=True)
    assert concurrency.limit == 2


def test_half_is_not_most_and_counting_restarts_after_each_step() -> None:
    concurrency = ConcurrencyLimit(3)
    for disturbed in (True, False) * 10:
        concurrency.observe(2, disturbed)
    assert concurrency.limit == 3
    notes = [concurrency.observe(2, True) for _ in range(4)]
    assert concurrency.limit == 2 and sum(map(bool, notes)) == 1


def test_the_limit_never_falls_below_one() -> None:
    concurrency = ConcurrencyLimit(2)
    for _ in range(50):
        concurrency.observe(1, disturbed=True)
    assert concurrency.limit == 1
