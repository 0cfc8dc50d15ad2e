"""A plan is built from a valid configuration, or refused for what does not fit the engine, the model or the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.errors import ConfigError
from optimize.plan import make_plan
from optimize.study.target import plan_of_point
from tests.optimize.plan.chat_study import FIXED, USER_METRIC, bare, here, refusal

INT = "_target_: optuna.distributions.IntDistribution"
RAMP = "{_target_: optimize.load.arrivals.Ramp, from_per_s: 1, to_per_s: 2, ramp_s: %s}"


def test_a_plan_holds_what_the_configuration_names(tmp_path: Path) -> None:
    plan = make_plan(here(tmp_path))
    assert list(plan.objectives) == ["qps", "p99_latency_s", "memory_bytes", "bleu"]
    assert plan.folder == tmp_path / "out/studies/chat"
    assert plan.workload.name == "demo_chat" and len(plan.workload.references) == len(plan.workload.prompts)
    assert {"batch_size", "beam_size", "quantization"} <= set(plan.space.distributions)


def test_the_lengths_of_an_earlier_version_are_written_as_they_were(tmp_path: Path) -> None:
    """With the bounds that chat.yaml had, so that a study of that version goes on."""
    bounds = ("load.warmup_max_s=6", "load.window_max_s=8", "load.drain_max_s=15", "load.request_timeout_s=60")
    assert make_plan(here(tmp_path, *bounds)).signature["load"] == (
        "closed loop, 4 users; first_answer_max_s=180, warmup_s=1, warmup_requests=16, warmup_max_s=6, window_min_s=5, "
        "window_requests=40, window_max_s=8, drain_max_s=15, request_timeout_s=60, "
        "precision=p99_latency_s:0.15 qps:0.08"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"search_space.max_num_seq={{{INT}, low: 1, high: 2}}", "did you mean 'max_num_seqs'"),
        ("search_space.batch_size.high=0", "low <= high"),
        ("search_space.quantization.choices=[]", "choices"),
        ("search_space.quantization.choices=[fp16, int3]", "unknown quantization 'int3'"),
        (f"search_space.max_num_seqs={{{INT}, low: 1, high: 2}}", "both set"),
        ("search_space.batch_size.choices=[1, 2]", "choices"),
        ("search_space.beam_size.choices=[0, 1]", "whole numbers from 1"),
        ("model.path=no/such/folder", "model.path=no/such/folder is neither a folder nor a Hugging Face id"),
        ("model.path=conf/model", "model.path=conf/model holds no config.json"),
        ("objectives.speed={_target_: objectives.throughput.Speed}", "objectives.throughput.Speed"),
        (f"objectives.speed={{{FIXED}}}", "objectives.speed must be an objectives.Objective, got Fixed"),
        ("constraints.p98_latency_s={max: 1}", "did you mean 'p99_latency_s'"),
        ("constraints.bleu={min: 80, max: 20}", "contradicts"),
        ("constraints.qps={most: 3}", "no limit"),
        ("constraints.qps={min: fast}", "must be a number"),
        ("constraints.qps=3", "must be a mapping"),
        ("workload.path=missing.jsonl", "does not exist"),
        ("workload.reference_column=answer", "answer"),
        ("output_dir=/proc/nowhere", "output_dir: cannot write to /proc/nowhere"),
        ("load.arrivals.users=0", "users"),
        ("load.arrivals.user=3", "did you mean 'users'"),
        ("load.arrivals={_target_: optimize.load.arrivals.Trace, path: none.jsonl}", "cannot be read"),
        (f"load.arrivals={RAMP % 0}", "ramp_s must be positive"),
        (f"workload.output_tokens={{{FIXED}, tokens: 0}}", "tokens must be at least 1"),
        (f"workload.output_tokens={{{FIXED}, token: 5}}", "did you mean 'tokens'"),
        ("engine.flag={}", "did you mean 'flags'"),
        ("engine.flags.max_num_sequences=1", "max_num_sequences"),
        ("engine.flags.max_num_seq=1", "did you mean 'max_num_seqs'"),
        ("engine.flags.port=1", "set by this project"),
        ("recipes.int4.checkpoint=nowhere/at/all", "neither a folder nor a Hugging Face id"),
        (f"objectives.mine={{{USER_METRIC}, function: no.such}}", "cannot be imported"),
        (f"objectives.mine={{{USER_METRIC}, function: math.floor}}", "cannot score the workload's first reference"),
        (f"objectives.mine={{{USER_METRIC}}}", "function"),
        ("objectives.mine={_target_: objectives.quality.Perplexity, rows: 1}", "rows must be at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, override: str, message: str) -> None:
    alone = ["recipes.int4.scheme=null"] if override.startswith("recipes") else []
    assert message in refusal(here(tmp_path, *alone, override))


def test_a_load_with_a_length_of_its_own_takes_no_number_of_iterations(tmp_path: Path) -> None:
    config = here(tmp_path, f"load.arrivals={RAMP % 3}", "load.iterations.measured=5")
    assert "has a length of its own" in refusal(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("at={max_num_seq: 64}", "did you mean 'max_num_seqs'"),
        ("at={quantization: int3}", "^at.quantization: unknown quantization 'int3'"),
    ],
)
def test_one_configuration_is_checked_like_a_search_space(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of_point(here(tmp_path, override), "measure")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"prompt": "a", "reference": "b"}\n{"prompt": "c", ', "line 2"),
        ('{"prompt": "a", "references": "b"}\n', "did you mean 'references'"),
        ('{"prompt": 3, "reference": "b"}\n', "line 1"),
    ],
)
def test_a_workload_must_be_readable(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "w.jsonl").write_text(content, encoding="utf-8")
    assert message in refusal(here(tmp_path, f"workload.path={json.dumps(str(tmp_path / 'w.jsonl'))}"))


@pytest.mark.parametrize(("turns", "requests"), [("last", 3), ("all", 5)])
def test_of_conversations_a_trace_says_only_when_they_arrive(tmp_path: Path, turns: str, requests: int) -> None:
    lines = [{"offset_s": second, "prompt_tokens": 9, "output_tokens": 7} for second in range(3)]
    (tmp_path / "trace.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    trace = f"{{_target_: optimize.load.arrivals.Trace, path: {tmp_path}/trace.jsonl}}"
    plan = make_plan(bare(tmp_path, f"workload.turns={turns}", f"load.arrivals={trace}", "constraints={}"))
    assert len(plan.workload.prompts) == requests
    assert (plan.workload.output_tokens is None) == (plan.workload.conversations is not None) == (turns == "all")
