"""Recommendation, runner-up and defaults request by request: latencies and the engine's telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from optimize.report.charts.canvas import Drawing, Label, Mark, Stroke
from optimize.report.charts.marks import HEIGHT, WIDTH
from optimize.report.charts.scales import Scale, frame, scale_of
from optimize.report.data import Facts, InspectedTrial

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, WIDTH - 12.0, 30.0, HEIGHT - 44.0
_DASHES = {"pick": "", "runner": "7 3", "base": "2 3"}
_SHARES = (0.0, 0.5, 0.9, 0.99, 0.999)
_MOST = 400
"""Points per line or cloud: more cannot be told apart at this size."""

Points = Sequence[tuple[float, float]]
_SERIES: Mapping[str, tuple[str, float]] = {
    "requests_running": ("Requests running", 1.0),
    "requests_waiting": ("Requests waiting", 1.0),
    "kv_cache_use": ("KV cache in use (%)", 100.0),
    "cpu_cores": ("Processor cores in use", 1.0),
    "gpu_use": ("GPU in use (%)", 100.0),
}


def drawings(facts: Facts) -> list[Drawing]:
    """Panels on the recommendation, the runner-up and the defaults together."""
    inspected = [c for c in facts.inspected if c.latencies_s]
    if not inspected:
        return []
    panels = [percentiles(inspected), _over_time(inspected)]
    for name, (title, factor) in _SERIES.items():
        if any(v for c in inspected for _, v in c.series.get(name, ())):
            panels.append(_lines(inspected, name, title, partial(_times, factor)))
    if any(len(c.series.get("generated_tokens", ())) > 2 for c in inspected):
        panels.append(_lines(inspected, "generated_tokens", "Generated tokens per second", rates))
    return panels


def percentiles(inspected: Sequence[InspectedTrial]) -> Drawing:
    """Latency at each share of the requests, the tail spread out: each further nine takes as much room."""
    drawing = Drawing("latency_percentiles", "Latency by percentile", WIDTH, HEIGHT)
    most = max(len(c.latencies_s) for c in inspected)
    shares = [p for p in _SHARES if p < 1 - 1 / (most + 1)]
    across = Scale(0.0, -float(np.log10(1 / (most + 1))), _LEFT, _RIGHT)
    up = scale_of([v for c in inspected for v in c.latencies_s], _BOTTOM, _TOP, "s")
    for value, text in up.ticks():
        drawing.add(Stroke([[(_LEFT, up.at(value)), (_RIGHT, up.at(value))]], "grid"))
        drawing.add(Label(_LEFT - 6, up.at(value) + 4, text, anchor="end"))
    for share in shares:
        x = across.at(_nines(share))
        drawing.add(Stroke([[(x, _TOP), (x, _BOTTOM)]], "grid"))
        drawing.add(Label(x, _BOTTOM + 15, f"{100 * share:g}"))
    drawing.add(Label(_RIGHT, _BOTTOM + 32, "percentile of requests", "ink", "end"))
    drawing.add(Label(4, _TOP - 10, f"Latency ({up.shown_unit}), lower is better", "ink", "start"))
    for c in reversed(inspected):
        line = [(across.at(_nines(p)), up.at(v)) for p, v in _quantiles(c.latencies_s)]
        drawing.add(Stroke([line], c.kind, 2.0, _DASHES[c.kind], c.number))
    return drawing


def _nines(share: float) -> float:
    return -float(np.log10(1 - share))


def _quantiles(latencies_s: Sequence[float]) -> list[tuple[float, float]]:
    n = len(latencies_s)
    ranked = [(i / (n + 1), v) for i, v in enumerate(sorted(latencies_s), start=1)]
    head, tail = ranked[: -_MOST // 2], ranked[-_MOST // 2 :]
    return [*head[:: max(1, len(head) // (_MOST // 2))], *tail]


def _over_time(inspected: Sequence[InspectedTrial]) -> Drawing:
    drawing = Drawing("latency_over_time", "Latency of each request of the last measurement", WIDTH, HEIGHT)
    across = Scale(0.0, max(t for c in inspected for t, _ in c.last_s) or 1.0, _LEFT, _RIGHT)
    up = scale_of([v for c in inspected for _, v in c.last_s], _BOTTOM, _TOP, "s")
    frame(drawing, across, up, "seconds since the load began", f"Latency of each request ({up.shown_unit})")
    _window(drawing, inspected, across)
    for c in reversed(inspected):
        shape = {"pick": "circle", "runner": "square", "base": "diamond"}[c.kind]
        points = c.last_s[:: max(1, len(c.last_s) // _MOST)]
        drawing.add(*(Mark(across.at(t), up.at(v), c.kind, shape, 2.4, style="faint") for t, v in points))
    return drawing


def _window(drawing: Drawing, inspected: Sequence[InspectedTrial], across: Scale) -> None:
    """The start of the recommendation's measured window; what lies before it is warm-up."""
    start = inspected[0].measured[-1].seconds.get("warmup", 0.0)
    if start > 0:
        drawing.add(Stroke([[(across.at(start), _TOP), (across.at(start), _BOTTOM)]], "muted", 1.2, "4 3"))
        drawing.add(Label(across.at(start) + 3, _TOP + 9, "window starts", "muted", "start", 10))


def _lines(inspected: Sequence[InspectedTrial], name: str, title: str, shown: Callable[[Points], Points]) -> Drawing:
    drawing = Drawing(f"series_{name}", f"{title} during the last measurement", WIDTH, HEIGHT)
    series = {c.number: shown(c.series.get(name, ())) for c in inspected}
    across = Scale(0.0, max(t for points in series.values() for t, _ in points) or 1.0, _LEFT, _RIGHT)
    top = max(v for points in series.values() for _, v in points)
    frame(drawing, across, Scale(0.0, top * 1.08 or 1.0, _BOTTOM, _TOP), "seconds since the load began", title)
    up = Scale(0.0, top * 1.08 or 1.0, _BOTTOM, _TOP)
    for c in reversed(inspected):
        points = series[c.number][:: max(1, len(series[c.number]) // _MOST)]
        line = [(across.at(t), up.at(v)) for t, v in points if t >= 0]
        drawing.add(Stroke([line], c.kind, 2.0, _DASHES[c.kind], c.number))
    return drawing


def _times(factor: float, points: Points) -> Points:
    return [(t, v * factor) for t, v in points]


def rates(points: Points) -> list[tuple[float, float]]:
    """Growth of a counter per second between samples."""
    pairs = zip(points, points[1:], strict=False)
    return [(t, (v - before) / (t - earlier)) for (earlier, before), (t, v) in pairs if t > earlier]
