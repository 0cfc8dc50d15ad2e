"""Figures sampled from an engine and from the machine."""

import os
import time
from pathlib import Path

import pytest

from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.metrics import parse_metrics
from optimize.engine.simulated import SimulatedLauncher
from optimize.evaluation.interference import Machine
from optimize.evaluation.telemetry import Telemetry

EXPOSITION = """\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 11862.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="model"} 7.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="model"} 3.0
# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="model",reason="capacity"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="model",reason="deferred"} 1.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="model"} 0.03125
# HELP vllm:num_preemptions_total Cumulative number of preemption from the engine.
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="model"} 4.0
# HELP vllm:num_preemptions_created Cumulative number of preemption from the engine.
# TYPE vllm:num_preemptions_created gauge
vllm:num_preemptions_created{engine="0",model_name="model"} 1.7637e+09
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="model"} 1.2345e+06
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="model"} 900.0
# HELP vllm:prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="model"} 300.0
# HELP vllm:external_prefix_cache_hits_total Prefix cache hits of a connector.
# TYPE vllm:external_prefix_cache_hits_total counter
vllm:external_prefix_cache_hits_total{engine="0",model_name="model"} 7.0
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="model"} 0.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="model"} 100.0
"""


def test_figures_of_one_engine() -> None:
    assert parse_metrics(EXPOSITION) == {
        "requests_running": 7.0,
        "requests_waiting": 3.0,
        "kv_cache_use": 0.03125,
        "preemptions": 4.0,
        "generated_tokens": 1_234_500.0,
        "prefix_cache_queries": 900.0,
        "prefix_cache_hits": 300.0,
    }


def test_engines_add_up_but_the_fullest_cache_counts() -> None:
    second = EXPOSITION.replace('engine="0"', 'engine="1"').replace(" 0.03125", " 0.5")
    both = parse_metrics(EXPOSITION + second)
    assert both == {
        "requests_running": 14.0,
        "requests_waiting": 6.0,
        "kv_cache_use": 0.5,
        "preemptions": 8.0,
        "generated_tokens": 2_469_000.0,
        "prefix_cache_queries": 1800.0,
        "prefix_cache_hits": 600.0,
    }
    assert parse_metrics(second + EXPOSITION) == both


def test_samples_without_labels_and_idle_gauges_count() -> None:
    assert parse_metrics("vllm:kv_cache_usage_perc 0\nvllm:num_requests_running 0\n") == {
        "kv_cache_use": 0.0,
        "requests_running": 0.0,
    }


@pytest.mark.parametrize("text", ["", "\n", "<html><body>404 not found</body></html>", "go_goroutines 12\n"])
def test_text_that_is_not_vllms_holds_no_figures(text: str) -> None:
    assert parse_metrics(text) == {}


def test_an_engine_and_the_machine_are_sampled_for_the_duration_of_a_load(tmp_path: Path) -> None:
    engine = SimulatedLauncher().launch(EngineConfig("m", "fp16"), tmp_path / "log")
    names = {"kv_cache_use", "requests_running", "cpu_cores", "other_cores"}
    try:
        began, deadline = time.monotonic(), time.monotonic() + 60
        with Telemetry(engine, Machine(lambda: engine.pids)).sampling() as telemetry:
            while not names <= telemetry.series(began).keys():
                assert time.monotonic() < deadline, f"sampled only {sorted(telemetry.series(began))}"
                time.sleep(0.05)
        series, ended = telemetry.series(began), time.monotonic()
    finally:
        engine.stop()
    assert all(0 <= second <= ended - began for points in series.values() for second, _ in points)
    assert telemetry.series(began) == series  # it ended with the load


def test_a_part_that_fails_costs_neither_the_others_nor_a_later_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky(Machine):
        calls = 0

        def sample(self) -> dict[str, float]:
            self.calls += 1
            if self.calls == 1:
                raise OSError(5, "Input/output error")
            return {"other_cores": 0.5}

    class Engine:
        endpoint = Endpoint("http://127.0.0.1:9", None, "model")
        pids = (os.getpid(),)

    monkeypatch.setattr("optimize.evaluation.telemetry.PERIOD_S", 0.01)
    machine = Flaky(lambda: ())
    with Telemetry(Engine(), machine).sampling() as telemetry:
        deadline = time.monotonic() + 30
        while not {"cpu_cores", "other_cores"} <= telemetry.series(0.0).keys() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert machine.calls > 1 and {"cpu_cores", "other_cores"} <= telemetry.series(0.0).keys()
