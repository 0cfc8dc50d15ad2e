from itertools import islice, takewhile

import pytest

from optimize.errors import ConfigError
from optimize.load.bursty import Bursts, HeavyTailed


@pytest.mark.parametrize("arrivals", [HeavyTailed(50.0), Bursts(50.0, 10)])
def test_arrivals_are_seeded_increasing_and_of_their_rate(arrivals: HeavyTailed | Bursts) -> None:
    times = list(islice(arrivals.due_times_s(3), 20_000))
    assert times == list(islice(arrivals.due_times_s(3), 20_000)) != list(islice(arrivals.due_times_s(4), 20_000))
    assert times == sorted(times)
    assert 20_000 / times[-1] == pytest.approx(50.0, rel=0.25)  # a heavy tail has a mean that comes slowly


def test_a_heavy_tail_has_longer_silences_than_independent_users() -> None:
    times = list(takewhile(lambda t: t < 400, HeavyTailed(50.0).due_times_s(0)))
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) > 20 / 50.0


def test_the_requests_of_a_group_are_due_at_once() -> None:
    times = list(islice(Bursts(50.0, 10).due_times_s(0), 30))
    assert [len(set(times[k : k + 10])) for k in (0, 10, 20)] == [1, 1, 1]


def test_gaps_without_a_mean_and_groups_without_a_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="shape must be above 1"):
        HeavyTailed(1.0, 1.0)
    with pytest.raises(ConfigError, match="together must be at least 1"):
        Bursts(1.0, 0)
