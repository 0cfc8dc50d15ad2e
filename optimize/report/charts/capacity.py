"""The response to load: the share of requests outside the SLO at each level, and where it crosses the line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.capacity import Capacity, Slo, Unit
from optimize.report.charts.canvas import SHAPES, Drawing, Label, Mark, Stroke
from optimize.report.charts.marks import HEIGHT, WIDTH
from optimize.report.charts.scales import Scale, frame, scale_of
from optimize.report.data import Facts, InspectedTrial

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, WIDTH - 12.0, 30.0, HEIGHT - 44.0
_DASHES = {"pick": "", "runner": "7 3", "base": "2 3"}
_TITLES = {
    "ttft_s": "TTFT", "tpot_s": "TPOT", "latency_s": "latency", "joint": "all limits", "errors": "errors",
    "client": "the client's reach",
}  # fmt: skip
_DECADES, _POINTS = 10.0, 60


def title_of_limit(name: str | None) -> str:
    """A criterion of an SLO for people; a dash where there is none."""
    return _TITLES.get(name or "", name or "–")


def drawings(facts: Facts) -> list[Drawing]:
    """The responses of recommendation, runner-up and defaults; empty where no capacity was searched for."""
    inspected = [c for c in facts.inspected if c.measured and c.measured[-1].capacity]
    return [response(inspected)] if inspected else []


def response(inspected: Sequence[InspectedTrial]) -> Drawing:
    """The probes of all measurements, and the curve, the capacity and its interval of the last."""
    drawing = Drawing("capacity", "Requests outside the SLO by load", WIDTH, HEIGHT)
    allowed = max(_allowed(c) for c in inspected)
    levels = [probe.level for c in inspected for capacity in _capacities(c) for probe in capacity.probes]
    across = scale_of([*levels, *(c.value for i in inspected for c in _capacities(i))], _LEFT, _RIGHT, log=False)
    up = Scale(100 * allowed / _DECADES, 100.0, _BOTTOM, _TOP, log=True)
    unit = "users" if _capacities(inspected[0])[-1].unit is Unit.USERS else "requests/s"
    frame(drawing, across, up, f"load ({unit})", "Requests outside the limit that binds (%)")
    line = up.at(100 * allowed)
    drawing.add(Stroke([[(_LEFT, line), (_RIGHT, line)]], "muted", 1.2, "4 3"))
    drawing.add(Label(_RIGHT - 3, line - 5, "SLO", "muted", "end", 10))
    for c in reversed(inspected):
        _draw(drawing, c, across, up)
    return drawing


def _draw(drawing: Drawing, c: InspectedTrial, across: Scale, up: Scale) -> None:
    capacities, criterion = _capacities(c), _criterion(c)
    last, allowed = capacities[-1], _allowed(c)
    for capacity in capacities:
        for probe in capacity.probes:
            outside = 100 * (1 - probe.shares.get(criterion, 1.0))
            style = "faint" if probe.holds is not False else "faint open"
            drawing.add(Mark(across.at(probe.level), up.at(outside), c.kind, SHAPES[c.kind], 3.0, c.number, style))
    levels = [float(level) for level in np.linspace(across.low, across.high, _POINTS)]
    curve = [(level, last.response(level, 1 - allowed)) for level in levels]
    points = [(across.at(level), up.at(100 * (1 - share))) for level, share in curve if share is not None]
    line = up.at(100 * allowed)
    drawing.add(Stroke([points], c.kind, 1.6, _DASHES[c.kind], c.number))
    drawing.add(Stroke([[(across.at(last.low), line), (across.at(min(last.high, across.high)), line)]], c.kind, 4.0))
    drawing.add(Mark(across.at(last.value), line, c.kind, SHAPES[c.kind], 6.0, c.number))


def _capacities(c: InspectedTrial) -> list[Capacity]:
    return [Capacity.from_dict(record.capacity) for record in c.measured if record.capacity]


def _slo(c: InspectedTrial) -> Slo:
    return Slo.from_dict(c.measured[-1].capacity["slo"])


def _criterion(c: InspectedTrial) -> str:
    """The criterion that binds; of an engine that was never broken, the first."""
    criteria, binds = _slo(c).criteria(), _capacities(c)[-1].binds
    return binds if binds in criteria else next(iter(criteria))


def _allowed(c: InspectedTrial) -> float:
    """Largest share of requests outside the criterion that binds."""
    return 1 - _slo(c).criteria()[_criterion(c)]
