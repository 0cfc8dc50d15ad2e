"""The simulation of many engines obeys what must hold of any queue."""

import pytest

from benchmarks.scaling import Costs, kinds_of, row_for, simulate


@pytest.mark.parametrize("engines", [1, 8, 64])
def test_free_coordination_keeps_all_engines_at_work(engines: int) -> None:
    result = simulate(engines, 10.0, Costs(0.0, 0.0), 200 * engines)
    assert result.busy == pytest.approx(1.0, abs=0.02)
    assert result.per_s == pytest.approx(engines / 10.3, rel=0.05)
    assert result.coordinator == 0.0 and result.behind_s == 0.0


def test_a_slow_coordinator_bounds_the_rate_with_any_number_of_engines() -> None:
    rates = [simulate(engines, 10.0, Costs(1.0, 0.0), 2000).per_s for engines in (5, 100, 1000)]
    assert rates[0] == pytest.approx(5 / 11.3, rel=0.05)
    assert rates[1] == pytest.approx(1.0, rel=0.15) and rates[2] <= 1.0


def test_a_slow_mirror_delays_nobody_and_falls_behind() -> None:
    quick, slow = (simulate(8, 10.0, Costs(0.01, mirror_s), 400) for mirror_s in (0.0, 2.0))
    assert quick.per_s == slow.per_s
    assert slow.behind_s == pytest.approx(400 * 2.0 - 400 / slow.per_s, rel=0.1)


def test_costs_are_those_of_as_many_engines_or_the_nearest_below() -> None:
    rows = {str(n): {"storage": "SQLite", "sampler": "gp", "workers": n} for n in (8, 64, 1)}
    rows["other"] = {"storage": "SQLite", "sampler": "random", "workers": 8}
    result, other = kinds_of(rows)
    assert [row_for(engines, result)["workers"] for engines in (1, 7, 8, 64, 1000)] == [1, 1, 8, 64, 64]
    assert row_for(1, other)["workers"] == 8
