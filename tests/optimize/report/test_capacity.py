"""The report's chart of a capacity: probes, curve, SLO line and interval, and the table below it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimize.capacity import Capacity, Kind, Probe, Quantity, Slo, SloLimit, Unit
from optimize.load.service_level import capacity_in_words
from optimize.report.charts.canvas import Drawing, Label, Mark, Stroke
from optimize.report.charts.capacity import drawings
from optimize.report.data import Facts
from optimize.report.page import draw, html
from optimize.report.sections import capacities
from optimize.report.time_spent import windows_in_words
from optimize.testing.made_up_study import made_up

SLO = Slo((SloLimit(Quantity.TTFT, 0.5), SloLimit(Quantity.LATENCY, 2.0)))


def shares(latency: float) -> dict[str, float]:
    return {"ttft_s": 1.0, "latency_s": latency, "errors": 1.0}


CAPACITY = Capacity(
    Unit.PER_S, 9.0, 8.0, 10.0, Kind.BRACKETED, "latency_s",
    (
        Probe(4.0, 5.0, 20, shares(1.0), True, 0.0), Probe(8.0, 20.0, 160, shares(0.994), None, 5.0),
        Probe(16.0, 5.0, 80, shares(0.4), False, 25.0),
    ), steepness=4.0,
)  # fmt: skip
RAW: dict[str, Any] = {**CAPACITY.to_dict(), "slo": SLO.to_dict()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return made_up(tmp_path_factory.mktemp("made-up"), 12)


def with_capacity(facts: Facts, raw: dict[str, Any]) -> Facts:
    inspected = [replace(c, measured=[replace(r, capacity=raw) for r in c.measured]) for c in facts.inspected]
    return replace(facts, inspected=inspected)


def marks(drawing: Drawing, kind: str) -> list[Mark]:
    return [item for item in drawing.items if isinstance(item, Mark) and item.role == kind]


def test_a_study_without_a_capacity_has_no_such_section(plain: Facts) -> None:
    assert drawings(plain) == [] and capacities(plain) == []
    assert 'id="capacity"' not in html(plain, draw(plain), "")


def test_the_chart_shows_probes_curve_line_and_interval(plain: Facts) -> None:
    facts = with_capacity(plain, RAW)
    (drawing,), kind = drawings(facts), facts.inspected[0].kind
    probes = sorted((m for m in marks(drawing, kind) if m.size < 5), key=lambda m: m.x)
    assert [("open" in m.style) for m in probes] == [False, False, True]
    (knee,) = (m for m in marks(drawing, kind) if m.size > 5)
    assert probes[1].x < knee.x < probes[2].x and probes[1].y > knee.y > probes[2].y  # fewer outside lies lower
    (bar,) = (s for s in drawing.items if isinstance(s, Stroke) and s.role == kind and s.width == 4.0)
    (left, right), = bar.lines  # fmt: skip
    assert left[0] < knee.x < right[0] and left[1] == right[1] == knee.y
    assert "SLO" in [item.text for item in drawing.items if isinstance(item, Label)]
    curve = next(s for s in drawing.items if isinstance(s, Stroke) and s.role == kind and s.width == 1.6)
    assert min(abs(y - knee.y) for x, y in curve.lines[0] if abs(x - knee.x) < 6) < 6  # it crosses the line there


def test_the_page_has_a_section_with_the_capacities(plain: Facts) -> None:
    facts = with_capacity(plain, RAW)
    page = html(facts, draw(facts), "")
    assert 'id="capacity"' in page and 'href="#capacity"' in page
    row = capacities(facts)[0]
    assert (row["capacity"], row["binds"], row["probes"], row["load"]) == (
        "9.0 (8.0–10.0) requests/s",
        "latency",
        3,
        "30 s",
    )
    assert 'data-label="Limited by">latency<' in page


def test_an_open_end_is_said_and_drawn_to_the_edge(plain: Facts) -> None:
    raw = {**RAW, "high": None, "kind": "at least", "binds": "client", "steepness": None}
    facts = with_capacity(plain, raw)
    assert capacities(facts)[0]["capacity"].startswith("at least 9")
    assert capacities(facts)[0]["binds"] == "the client's reach"
    assert len(drawings(facts)) == 1


def test_a_figure_file_is_drawn_like_all_others(plain: Facts, tmp_path: Path) -> None:
    names = [drawing.name for drawing in draw(with_capacity(plain, RAW)).every()]
    assert names.count("capacity") == 1 and len(set(names)) == len(names)


def test_the_cost_of_a_study_is_told_in_probes(plain: Facts) -> None:
    assert "windows:" in windows_in_words(plain.records)
    records = [replace(record, capacity=RAW) for record in plain.records]
    assert windows_in_words(records) == "searches for the capacity: 3 probes and 30 s of load in the median"


def test_a_search_is_one_line() -> None:
    assert capacity_in_words(RAW) == (
        "capacity: 9 requests/s, limited by latency_s; 3 probes, 30 s of load, 260 requests"
    )
    assert capacity_in_words({**RAW, "unit": "users", "kind": "at least", "binds": None}).startswith(
        "capacity: at least 9 users; 3 probes"
    )
