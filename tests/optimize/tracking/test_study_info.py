"""What the runs of one study have in common."""

from __future__ import annotations

import json
from pathlib import Path

from objectives.latency import LatencyQuantile
from objectives.throughput import RequestRate
from optimize.tracking.study_info import FILE, About, glossary, meaning


def test_what_is_written_is_read(tmp_path: Path) -> None:
    known = About({"study": "s"}, {"name": "w", "digest": "d", "source": "f", "sizes": {}}, "text")
    known.write(tmp_path)
    assert About.read(tmp_path) == known


def test_folders_of_earlier_versions_hold_tags_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"study": "s", "scenario": "chat"}))
    assert About.read(tmp_path) == About({"study": "s", "scenario": "chat"})


def test_a_metric_is_explained_with_its_unit_direction_and_parameters() -> None:
    metrics = {"p99_latency_s": LatencyQuantile(quantile=0.99), "qps": RequestRate()}
    lines = glossary(metrics, {"qps": metrics["qps"]}).splitlines()
    assert lines[2].startswith("| **qps** | 1/s | higher | Answered requests per second")
    assert lines[3].startswith("| p99_latency_s | s | lower | ") and "(quantile=0.99)" in lines[3]
    assert "\n" not in meaning(metrics["p99_latency_s"])
