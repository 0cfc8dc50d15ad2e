"""Readings of traffic from a record, from scrapes and from a Prometheus."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from optimize.config.drift import Drift
from optimize.drift.sources import check_address, from_prometheus, increments, readings_of
from optimize.engine.traffic import Histogram, Traffic, parse_traffic, record_files
from optimize.errors import ConfigError
from optimize.serve.traffic_record import TrafficRecord
from tests.conftest import ROOT

SCRAPE = ROOT / "tests/data/metrics.txt"


def snapshot(minute: float, n: float) -> Traffic:
    return Traffic(60.0 * minute, {"ttft_s": Histogram({0.1: n / 2, math.inf: n}, 0.2 * n)}, {"prefix_cache_hits": n})


def test_a_real_scrape_of_vllm_is_read() -> None:
    traffic = parse_traffic(SCRAPE.read_text(encoding="utf-8"), 60.0)
    assert set(traffic.histograms) == {"prompt_tokens", "output_tokens", "ttft_s", "tpot_s", "latency_s"}
    assert set(traffic.counters) == {"prefix_cache_queries", "prefix_cache_hits"}
    lengths = traffic.histograms["prompt_tokens"]
    assert traffic.requests == lengths.n == lengths.below[math.inf] > 0
    assert 1 < lengths.mean < 256 and 0 < traffic.histograms["latency_s"].mean < 60
    assert lengths.below == dict(sorted(lengths.below.items())) and lengths.above(1.0) <= lengths.n


def test_readings_are_what_came_between_snapshots_a_minute_apart() -> None:
    seen = increments([snapshot(0, 10), snapshot(2, 40), snapshot(0.3, 20), snapshot(1, 30)])
    assert [(r.at, r.seconds, r.requests, r.counters["prefix_cache_hits"]) for r in seen] == [
        (60.0, 60.0, 20.0, 20.0), (120.0, 60.0, 10.0, 10.0),
    ]  # fmt: skip
    assert seen[0].histograms["ttft_s"].above(0.1) == 10.0 and seen[0].histograms["ttft_s"].total == pytest.approx(4.0)


def test_a_restart_counts_from_zero() -> None:
    assert [r.requests for r in increments([snapshot(0, 10), snapshot(1, 4), snapshot(2, 9)])] == [4.0, 5.0]


def test_a_single_snapshot_is_all_that_its_server_has_added_up() -> None:
    (only,) = increments([snapshot(5, 10)])
    assert only.requests == 10 and math.isnan(only.seconds)


def test_the_record_of_serve_is_read_back_past_lines_that_were_cut_off(tmp_path: Path) -> None:
    now = [0.0]
    record = TrafficRecord(tmp_path, lambda: now[0])
    text = SCRAPE.read_text(encoding="utf-8")
    for now[0] in (0.0, 10.0, 59.0, 60.0, 121.0):
        record.take(text)
    (_, path) = record_files(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"at": 130, "histo')
    record.take("# nothing of vLLM's\n")
    assert [r.at for r in readings_of(Drift(), record_files(tmp_path), "chat")] == [60.0, 121.0]


def test_the_record_stays_within_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.serve.traffic_record._FILE_MAX_BYTES", 4000)
    minutes = iter(range(100))
    record = TrafficRecord(tmp_path, lambda: 60.0 * next(minutes))
    for _ in range(20):
        record.take(SCRAPE.read_text(encoding="utf-8"))
    older, newer = record_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {older.name, newer.name}
    seen = readings_of(Drift(), [older, newer], "chat")
    assert seen[-1].at == 19 * 60.0 and len(seen) > 1 and {reading.seconds for reading in seen} == {60.0}


def test_saved_scrapes_are_of_the_time_when_they_were_written(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for minute, path in enumerate(paths):
        path.write_text(SCRAPE.read_text(encoding="utf-8"), encoding="utf-8")
        os.utime(path, (60.0 * minute, 60.0 * minute))
    (reading,) = readings_of(Drift(scrape=[str(path) for path in paths]), [], "chat")
    assert (reading.at, reading.requests) == (60.0, 0.0)


def series(name: str, instance: str, values: list[tuple[float, float]], **labels: str) -> dict[str, Any]:
    return {
        "metric": {"__name__": name, "instance": instance, **labels}, "values": [[t, str(v)] for t, v in values],
    }  # fmt: skip


def test_a_prometheus_adds_up_its_servers() -> None:
    name = "vllm:time_to_first_token_seconds_bucket"
    result = [
        series(name, "a:8000", [(60, 10), (120, 20), (180, 3)], le="+Inf", engine="0"),
        series(name, "a:8000", [(60, 1), (120, 2), (180, 3)], le="+Inf", engine="1"),
        series(name, "b:8000", [(120, 5), (180, 9)], le="+Inf"),
    ]
    queries: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        queries.append(request.content.decode())
        return httpx.Response(200, json={"status": "success", "data": {"result": result if len(queries) == 1 else []}})

    settings = Drift(prometheus="http://prometheus:9090/", match='model_name="mine"', days=1.5)
    seen = from_prometheus(settings, 200_000.0, httpx.MockTransport(answer))
    assert [(r.at, r.requests, r.servers, r.seconds) for r in seen] == [(120.0, 11.0, 1, 60.0), (180.0, 10.0, 2, 60.0)]
    assert len(queries) == 2 and "model_name" in queries[0] and "request_prompt_tokens" in queries[0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(400, json={"status": "error", "error": "parse error"}), "refuses the query: parse error"),
        (httpx.Response(200, text="<html>"), "is no Prometheus"),
        (httpx.Response(200, json=[]), "is no Prometheus"),
        (httpx.Response(200, json={"status": "success", "data": {"result": []}}), "has no series of vLLM's"),
        (httpx.ConnectError("refused"), "does not answer (refused)"),
    ],
)
def test_a_prometheus_that_is_of_no_use_is_named(answer: httpx.Response | Exception, message: str) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ConfigError) as refused:
        from_prometheus(Drift(prometheus="http://p:9090", days=0.5), 1e6, httpx.MockTransport(respond))
    assert message in str(refused.value)


@pytest.mark.parametrize("address", ["prometheus:9090", "ftp://p", "http://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="must be http"):
        check_address(Drift(prometheus=address))


def test_files_that_are_of_no_use_are_named(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.txt", tmp_path / "other.txt"
    empty.write_text("", encoding="utf-8")
    other.write_text("vllm:request_prompt_tokens_bucket{le=\n", encoding="utf-8")
    for settings, message in (
        (Drift(scrape=[str(tmp_path / "none.txt")]), "none.txt"),
        (Drift(scrape=[str(empty)]), "holds no histogram of vLLM's"),
        (Drift(scrape=[str(other)]), "is no answer of /metrics"),
        (Drift(scrape=[str(empty)], prometheus="http://p:9090"), "give one of them"),
        (Drift(), "has kept no record of study 'chat'"),
    ):
        with pytest.raises(ConfigError, match=message):
            readings_of(settings, record_files(tmp_path / "nowhere"), "chat")


def test_a_reading_survives_json() -> None:
    reading = parse_traffic(SCRAPE.read_text(encoding="utf-8"), 60.0)
    copy = Traffic.from_dict(json.loads(json.dumps(reading.to_dict())))
    assert (copy.histograms, copy.counters, copy.at) == (reading.histograms, reading.counters, reading.at)
