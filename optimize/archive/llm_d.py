"""Measurements as Benchmark Reports of llm-d, version 0.2.1, for programs that read those.

The format is that of github.com/llm-d/llm-d-benchmark (llmdbenchmark/analysis/benchmark_report): one report per run,
with `run`, `scenario` (the stack, the load) and `results`; fields beyond those of its schema are refused by its
readers. Quality, memory by part and intervals have no place in it, and stay in the study.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from objectives import RequestRecord
from optimize.archive.masking import Masking
from optimize.config.archive import Export
from optimize.files import write_files
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import State
from optimize.raw_data import Series
from optimize.study.info import StudyInfo, info_of

if TYPE_CHECKING:
    import optuna

VERSION = "0.2.1"
_LABEL, _PART_VERSION = "vllm", "0.0.1"
_QUANTILES = {
    "p0p1": 0.001, "p1": 0.01, "p5": 0.05, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95,
    "p99": 0.99, "p99p9": 0.999,
}  # fmt: skip
_SERIES = {
    "kv_cache_use": ("kv_cache_usage", "fraction"), "requests_running": ("running_requests", "count"),
    "requests_waiting": ("waiting_requests", "count"),
}  # fmt: skip
"""Our telemetry -> its name and unit in a report."""
_PARALLEL = {"tp": "tensor_parallel_size", "pp": "pipeline_parallel_size", "dp": "data_parallel_size"}


def write_reports(study: optuna.Study, ledger: Ledger, settings: Export, folder: Path) -> list[Path]:
    """Write a report for each measurement of a study that still has its requests; returns the files."""
    info, masking = info_of(study), Masking(_config(ledger), on=not settings.paths)
    reports = {
        f"benchmark_report,_{study.study_name}_{record.number:04d}.yaml": yaml.safe_dump(report, allow_unicode=True)
        for record, report in _reports(info, ledger, masking)
    }
    return write_files(reports, folder)


def _config(ledger: Ledger) -> Any:
    path = ledger.folder / "config.yaml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def _reports(info: StudyInfo, ledger: Ledger, masking: Masking) -> Iterator[tuple[TrialRecord, dict[str, Any]]]:
    for record in ledger.records():
        requests = ledger.read_requests(record.number) if record.state is State.COMPLETED else []
        if window := _in_window(requests, record):
            yield record, masking.value(report(info, record, window, ledger.read_series(record.number)))


def _in_window(requests: Sequence[RequestRecord], record: TrialRecord) -> list[RequestRecord]:
    start = record.seconds.get("warmup", 0.0)
    return [r for r in requests if start <= r.due_s < start + record.seconds.get("window", float("inf"))]


def report(info: StudyInfo, record: TrialRecord, requests: Sequence[RequestRecord], series: Series) -> dict[str, Any]:
    """The report of one measurement.

    Args:
        info: Its study.
        record: Its trial.
        requests: Requests that were due within its window, at least one.
        series: Its telemetry.
    """
    return {
        "version": VERSION,
        "run": _run(info, record),
        "scenario": {"stack": [_engine(info, record)], "load": _load(record, requests)},
        "results": {
            "request_performance": {"aggregate": _performance(record, requests)},
            **_observability(series),
        },
    }


def _run(info: StudyInfo, record: TrialRecord) -> dict[str, Any]:
    identity = f"{record.study} {record.number} {record.started_at} {sorted(record.signature.items())}"
    ended = record.ended_at or record.started_at
    return {
        "uid": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "eid": record.study,
        "time": {
            "start": _iso(record.started_at), "end": _iso(ended),
            "duration": f"PT{max(ended - record.started_at, 0):.3f}S",
        },
        "description": f"trial {record.number} ({record.role}) of {info.scenario.title or record.study}",
        "keywords": [str(record.role), *(["vLLM's defaults"] if record.baseline else [])],
    }  # fmt: skip


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()


def _engine(info: StudyInfo, record: TrialRecord) -> dict[str, Any]:
    engine = record.config.get("engine", {})
    flags = {str(name): value for name, value in engine.get("flags", ())}
    tool, _, version = record.signature.get("engine", "vllm").partition(" ")
    parallelism = {short: int(flags.get(flag) or 1) for short, flag in _PARALLEL.items()}
    devices = parallelism["tp"] * parallelism["pp"] * parallelism["dp"] if tool == "vllm" else 0
    return {
        "metadata": {
            "schema_version": _PART_VERSION, "label": _LABEL, "cfg_id": str(record.config.get("engine_key", "")),
            "description": f"quantization: {engine.get('quantization', 'none')}",
        },
        "standardized": {
            "kind": "inference_engine", "tool": tool, "tool_version": version or "unknown", "role": "replica",
            "replicas": 1, "model": {"name": info.model or record.signature.get("model", "unknown")},
            "accelerator": {
                "model": record.signature.get("machine", "unknown"), "count": devices,
                "parallelism": {**parallelism, "dp_local": parallelism["dp"], "ep": 1, "workers": 1},
            },
        },
        "native": {
            "args": {f"--{name.replace('_', '-')}": value for name, value in flags.items()},
            "envars": {str(name): value for name, value in engine.get("env", ())},
        },
    }  # fmt: skip


def _load(record: TrialRecord, requests: Sequence[RequestRecord]) -> dict[str, Any]:
    words = record.signature.get("load", "")
    users, rate = re.match(r"closed loop, (\d+) user", words), re.match(r"\w+ arrivals, ([\d.e+-]+) requests/s", words)
    lengths = [r.prompt_tokens for r in requests if r.prompt_tokens is not None] or [0]
    standardized = {
        "tool": "vllm-optimize", "tool_version": importlib.metadata.version("vllm-optimize"),
        "parallelism": max(int(record.audit.get("processes") or 1), 1), "source": "sampled",
        "input_seq_len": {
            "distribution": "fixed" if len(set(lengths)) == 1 else "other", "value": float(np.mean(lengths)),
            "std_dev": float(np.std(lengths)), "min": min(lengths), "max": max(*lengths, 1),
        },
        "multi_turn": {"enabled": any(r.turn > 1 for r in requests)},
        **({"concurrency": int(users.group(1))} if users else {}),
        **({"rate_qps": float(rate.group(1))} if rate else {}),
    }  # fmt: skip
    native = {"config": {key: record.signature[key] for key in ("workload", "load", "seed") if key in record.signature}}
    return {
        "metadata": {"schema_version": _PART_VERSION, "description": words}, "standardized": standardized,
        "native": native,
    }  # fmt: skip


def _performance(record: TrialRecord, requests: Sequence[RequestRecord]) -> dict[str, Any]:
    answered = [r for r in requests if r.error is None]
    rates = {"output_token_rate": ("output_tokens_per_s", "tokens/s"), "request_rate": ("qps", "queries/s")}
    measured = {metric: record.estimates[metric] for metric, _ in rates.values() if metric in record.estimates}
    return {
        "requests": {
            "total": len(requests), "failures": len(requests) - len(answered),
            **_stats("input_length", [r.prompt_tokens for r in requests], "count"),
            **_stats("output_length", [r.output_tokens for r in answered], "count"),
        },
        "latency": {
            **_stats("time_to_first_token", [r.ttft_s for r in answered], "s"),
            **_stats("time_per_output_token", [r.tpot_s for r in answered], "s/token"),
            **_stats("request_latency", [r.latency_s for r in answered], "s"),
        },
        "throughput": {
            name: {"units": unit, "mean": measured[metric].value}
            for name, (metric, unit) in rates.items() if metric in measured
        },
    }  # fmt: skip


def _stats(name: str, values: Sequence[float | None], units: str) -> dict[str, Any]:
    """One entry of statistics; none where there are no values."""
    numbers = np.array([value for value in values if value is not None], dtype=float)
    if not len(numbers):
        return {}
    quantiles = {key: float(np.quantile(numbers, share)) for key, share in _QUANTILES.items()}
    return {
        name: {
            "units": units, "mean": float(numbers.mean()), "stddev": float(numbers.std()), "min": float(numbers.min()),
            **quantiles, "max": float(numbers.max()),
        }
    }  # fmt: skip


def _observability(series: Series) -> dict[str, Any]:
    """What the telemetry says of the engine over the whole load."""
    aggregate: Mapping[str, Any] = {
        key: value
        for metric, (field, unit) in _SERIES.items()
        for key, value in _stats(field, [v for _, v in series.get(metric, ())], unit).items()
    }
    if not aggregate:
        return {}
    return {"observability": {"components": [{"component_label": _LABEL, "aggregate": aggregate}]}}
