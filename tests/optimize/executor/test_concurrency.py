"""How many engines at a time are safe, by what the guard found."""

from optimize.executor.concurrency import ConcurrencyLimit


def test_undisturbed_measurements_change_nothing() -> None:
    safe = ConcurrencyLimit(4)
    assert [safe.heard(3, disturbed=False) for _ in range(20)] == [""] * 20
    assert safe.limit == 4


def test_where_most_are_disturbed_there_is_one_engine_less_and_people_are_told() -> None:
    safe = ConcurrencyLimit(2)
    said = [safe.heard(1, disturbed=True) for _ in range(4)]
    assert said[:3] == ["", "", ""]
    assert "4 of the last 4 measurements" in said[3] and "1 at a time" in said[3]
    assert safe.limit == 1


def test_what_ran_alone_says_nothing_of_others() -> None:
    safe = ConcurrencyLimit(2)
    for _ in range(10):
        safe.heard(0, disturbed=True)
    assert safe.limit == 2


def test_half_is_not_most_and_each_step_is_judged_anew() -> None:
    safe = ConcurrencyLimit(3)
    for disturbed in (True, False) * 10:
        safe.heard(2, disturbed)
    assert safe.limit == 3
    heard = [safe.heard(2, True) for _ in range(4)]
    assert safe.limit == 2 and sum(map(bool, heard)) == 1


def test_one_is_left() -> None:
    safe = ConcurrencyLimit(2)
    for _ in range(50):
        safe.heard(1, disturbed=True)
    assert safe.limit == 1
