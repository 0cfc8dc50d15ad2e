"""The cheapest fleet for a rate, by the lower end of the capacity; and prices at the capacity."""

import itertools
import random

import pytest

from objectives import Estimate
from optimize.config.deploy import Hardware
from optimize.price.estimate import MEASURED, Line, price_lines, to_markdown
from optimize.price.fleet import fleets
from optimize.price.fleet import to_markdown as fleet_markdown
from optimize.study.capacity import CAPACITY
from tests.optimize.rows import FIGURES, study_row

CAPACITY_PER_S = Estimate(12.0, 10.0, 14.0, 3, "1/s")
ROW = study_row(hardware="here", figures=FIGURES | {CAPACITY: CAPACITY_PER_S})


def _line(name: str, usd: float, low: float, basis: str = MEASURED) -> Line:
    capacity = Estimate(1.2 * low, low, 1.4 * low, 3, "1/s")
    return Line(Hardware(name, hourly_usd=usd), 1.0, basis, None, None, None, capacity)


def test_the_price_at_the_capacity_is_that_of_its_tokens() -> None:
    (line,) = price_lines(ROW, {"here": Hardware("here", hourly_usd=3.6)}, {})
    assert line.at_slo is not None and line.tokens is not None  # 200 tokens/s over 10 requests/s: 20 tokens each
    assert line.tokens.value == pytest.approx(0.001 * 1e6 / 200)
    assert line.at_slo.value == pytest.approx(0.001 * 1e6 / 240)
    assert (line.at_slo.low, line.at_slo.high) == pytest.approx((0.001 * 1e6 / 280, 0.001 * 1e6 / 200))
    assert "at the SLO" in to_markdown(ROW, [line]) and "capacity_per_s: 12.0 (10.0–14.0)" in to_markdown(ROW, [line])


def test_a_row_without_a_capacity_has_no_column_for_it() -> None:
    row = study_row(hardware="here")
    assert "SLO" not in to_markdown(row, price_lines(row, {"here": Hardware("here", hourly_usd=3.6)}, {}))


def test_a_capacity_of_zero_has_no_price() -> None:
    row = study_row(hardware="here", figures=FIGURES | {CAPACITY: Estimate(0.0, 0.0, 0.1, 3, "1/s")})
    (line,) = price_lines(row, {"here": Hardware("here", hourly_usd=3.6)}, {})
    assert line.at_slo is None and line.tokens is not None


def test_fleets_of_one_kind_are_ranked_by_their_price() -> None:
    ranked = fleets(21.0, [_line("big", 9.0, 30.0), _line("small", 2.0, 10.0)], 0.7)
    assert [fleet.in_words() for fleet in ranked] == ["3 × small", "1 × big"]
    assert [fleet.hourly_usd for fleet in ranked] == [6.0, 9.0]
    assert [fleet.carries_per_s for fleet in ranked] == pytest.approx([21.0, 21.0])


def test_a_mixture_comes_first_where_it_is_cheaper() -> None:
    ranked = fleets(28.0, [_line("big", 5.0, 30.0), _line("small", 2.0, 10.0)], 0.7)
    assert [fleet.in_words() for fleet in ranked] == ["1 × big + 1 × small", "4 × small", "2 × big"]
    assert ranked[0].to_dict() == {
        "machines": {"big": 1, "small": 1}, "hourly_usd": 7.0, "carries_per_s": pytest.approx(28.0),
    }  # fmt: skip


def test_no_mixture_is_cheaper_than_the_first_fleet() -> None:
    rng = random.Random(7)
    for _ in range(20):
        lines = [_line(f"m{k}", rng.uniform(1, 9), rng.uniform(3, 30)) for k in range(3)]
        rate = rng.uniform(5, 60)
        best = fleets(rate, lines, 0.7)[0]
        assert best.carries_per_s >= rate * (1 - 1e-6)
        rates = [0.7 * line.capacity.low for line in lines if line.capacity]
        prices = [line.hardware.hourly_usd or 0.0 for line in lines]
        counts = itertools.product(*(range(int(rate / r) + 2) for r in rates))
        every = [
            sum(n * p for n, p in zip(c, prices, strict=True))
            for c in counts
            if sum(n * r for n, r in zip(c, rates, strict=True)) >= rate
        ]
        assert best.hourly_usd == pytest.approx(min(every), abs=0.01)


def test_an_estimate_is_marked_with_its_assumption() -> None:
    text = fleet_markdown(7.0, fleets(7.0, [_line("here", 9.0, 10.0), _line("there", 2.0, 10.0, "estimate: x")], 0.7))
    rows = text.splitlines()[-2:]
    assert rows[0].startswith("| ≈ 1 × there | 2.00 | 7 |") and rows[0].endswith("| estimate: x |")
    assert rows[1].startswith("| 1 × here | 9.00 |") and "for 7 requests/s" in text
