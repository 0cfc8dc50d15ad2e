"""The glossary of metrics."""

from __future__ import annotations

from objectives.latency import LatencyQuantile
from objectives.throughput import RequestRate
from optimize.tracking.glossary import glossary, meaning


def test_a_metric_is_explained_with_its_unit_direction_and_parameters() -> None:
    metrics = {"p99_latency_s": LatencyQuantile(quantile=0.99), "qps": RequestRate()}
    lines = glossary(metrics, {"qps": metrics["qps"]}).splitlines()
    assert lines[2].startswith("| **qps** | 1/s | higher | Answered requests per second")
    assert lines[3].startswith("| p99_latency_s | s | lower | ") and "(quantile=0.99)" in lines[3]
    assert "\n" not in meaning(metrics["p99_latency_s"])
