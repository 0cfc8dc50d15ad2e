from optimize.serve.backoff import Backoff

BACKOFF = Backoff(first_s=0.5, factor=2.0, longest_s=3.0, healthy_s=60.0)


def test_the_first_restart_comes_at_once_and_pauses_grow_up_to_the_longest() -> None:
    assert [BACKOFF.pause_s(n) for n in range(6)] == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_night_of_failures_does_not_overflow() -> None:
    assert Backoff(0.5, 10.0, 30.0, 60.0).pause_s(10_000) == 30.0


def test_a_healthy_life_resets_the_count_of_restarts() -> None:
    assert BACKOFF.consecutive(4, lifetime_s=59.9) == 4
    assert BACKOFF.consecutive(4, lifetime_s=60.0) == 0
