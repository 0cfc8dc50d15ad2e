"""A Grafana dashboard of the series that the alerts use."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from objectives import Estimate
from optimize.config.deploy import Alerts, Levels
from optimize.deploy.alerts import cpu_expr, decode_expr, duration, queue_expr
from optimize.deploy.arrivals import arrivals_expr

_BY = "instance, model_name"
_WIDTH, _HEIGHT = 12, 8


def dashboard(title: str, settings: Alerts, beam_size: int, capacity: Estimate | None = None) -> str:
    """The dashboard as JSON; Grafana asks for its data source at the import."""
    window = duration(settings.window_s)
    panels = [
        _panel("Waiting before the first run (quantile)", [queue_expr(settings)], "s", settings.queue_s),
        _panel("Time per token", [decode_expr(settings, beam_size)], "s", settings.decode_s),
        _panel("Busy CPUs", [cpu_expr(settings)], "percentunit", settings.cpu),
        _panel("KV cache in use", [f"max by ({_BY}) (vllm:kv_cache_usage_perc)"], "percentunit"),
        _panel("Requests", [_sum("vllm:num_requests_running"), _sum("vllm:num_requests_waiting")], "short"),
        _panel("Preemptions", [_rate("vllm:num_preemptions_total", window)], "ops"),
        _panel("Answered requests", [_rate("vllm:request_success_total", window)], "reqps"),
        _panel("Output tokens", [_rate("vllm:generation_tokens_total", window)], "ops"),
        _panel("Time to first token, P99", [_p99("vllm:time_to_first_token_seconds_bucket", window)], "s"),
        _panel("Latency, P99", [_p99("vllm:e2e_request_latency_seconds_bucket", window)], "s"),
    ]
    if capacity is not None:
        panels.insert(3, _arrivals(settings, capacity))
    for position, panel in enumerate(panels):
        panel["id"] = position + 1
        panel["gridPos"] = {"x": position % 2 * _WIDTH, "y": position // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    return json.dumps(
        {
            "title": title, "schemaVersion": 39, "refresh": "5s", "time": {"from": "now-15m", "to": "now"},
            "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
            "panels": panels,
        },
        indent=1,
    )  # fmt: skip


def _arrivals(settings: Alerts, capacity: Estimate) -> dict[str, Any]:
    levels = settings.capacity
    limits = replace(levels, warn=levels.warn * capacity.low, critical=levels.critical * capacity.low)
    return _panel("Requests that arrive", [arrivals_expr(duration(settings.window_s), by=_BY)], "reqps", limits)


def _sum(metric: str) -> str:
    return f"sum by ({_BY}) ({metric})"


def _rate(metric: str, window: str) -> str:
    return f"sum by ({_BY}) (rate({metric}[{window}]))"


def _p99(metric: str, window: str) -> str:
    return f"histogram_quantile(0.99, sum by (le, {_BY}) (rate({metric}[{window}])))"


def _panel(title: str, expressions: list[str], unit: str, levels: Levels | None = None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if levels is not None:
        steps += [{"color": "orange", "value": levels.warn}, {"color": "red", "value": levels.critical}]
    return {
        "title": title, "type": "timeseries", "datasource": {"type": "prometheus", "uid": "${source}"},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr} for i, expr in enumerate(expressions)],
        "fieldConfig": {
            "defaults": {
                "unit": unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": {"mode": "line" if levels else "off"}},
            },
            "overrides": [],
        },
    }  # fmt: skip
