"""Flags, the files and adapters that they name, and the models that engines serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.checkpoint import hashes
from optimize.engine.vllm import VllmLauncher
from optimize.plan import content_of, make_plan
from tests.adapters import adapter
from tests.optimize.harness.stand_in import install
from tests.optimize.plan.chat_study import bare, here, refusal
from tests.packed import CONFIGS, described

CHOICE = "_target_: optuna.distributions.CategoricalDistribution"


def test_the_contents_of_files_that_flags_name_belong_to_the_study(tmp_path: Path) -> None:
    template, folder = tmp_path / "t.jinja", tmp_path / "adapter"
    template.write_text("a")
    folder.mkdir()
    overrides = [
        f"engine.flags.chat_template={template}",
        f"search_space.tokenizer={{{CHOICE}, choices: [{folder}, org/other]}}",
    ]
    before = make_plan(here(tmp_path, *overrides)).fingerprint()
    assert set(json.loads(before["files"])) == {str(template), str(folder)}
    template.write_text("b")
    after = make_plan(here(tmp_path, *overrides)).fingerprint()
    assert {key for key in after if after[key] != before[key]} == {"files"}
    assert "files" not in make_plan(here(tmp_path)).fingerprint()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('engine.flags.chat_template="a\\nb"', "control character '\\n'"),
        ('model.flags.chat_template="a\\tb"', "control character '\\t'"),
        ('model.name="a\\x1bb"', "control character"),
        (f'search_space.tokenizer={{{CHOICE}, choices: ["a\\nb", c]}}', "control character"),
        ('hardware.env.A="a\\nb"', "control character"),
        ('engine.env.A="a\\nb"', "control character"),
        ("hardware.env.A-B=1", "'A-B' is no name of an environment variable"),
    ],
)
def test_what_no_bundle_could_hold_is_refused_before_the_study(tmp_path: Path, override: str, message: str) -> None:
    assert message in refusal(here(tmp_path, override))


def test_a_secret_may_have_several_lines(tmp_path: Path) -> None:
    make_plan(here(tmp_path, 'hardware.env.STORE_KEY="-----BEGIN\\nabcdef\\n"'))


def test_adapters_are_asked_for_by_name_and_belong_to_the_study(tmp_path: Path) -> None:
    sql, chat = (str(adapter(tmp_path / name, rank=rank)) for name, rank in (("sql", 8), ("chat", 32)))
    words = (f"model.lora={{sql: {sql}, chat: {chat}}}", "engine.model=chat")
    plan = make_plan(here(tmp_path, *words))
    assert plan.space.model.flags["lora_modules"] == [f"sql={sql}", f"chat={chat}"]
    assert plan.space.model.flags["max_lora_rank"] == 32
    before = plan.fingerprint()
    assert before["asks"] == "chat" and set(json.loads(before["files"])) == {sql, chat}
    adapter(tmp_path / "new", rank=8, scale=0.1).joinpath("adapter_model.safetensors").replace(
        tmp_path / "sql/adapter_model.safetensors"
    )
    hashes._HASHES.clear()  # of this process, which reads a folder once
    after = make_plan(here(tmp_path, words[0])).fingerprint()
    assert {key for key in after if after[key] != before[key]} == {"files", "asks"} and after["asks"] == "sql, chat"
    assert content_of(plan, "demo/model") != content_of(make_plan(here(tmp_path)), "demo/model")


def test_vllms_own_flag_names_the_adapters_too(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "sql")
    flags = (f"engine.flags.lora_modules=['sql={folder}']", "engine.flags.enable_lora=true")
    assert make_plan(here(tmp_path, *flags)).signature["asks"] == "sql"
    assert "asks" not in make_plan(here(tmp_path)).signature


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine.model=sqk"], "engine.model='sqk' is no adapter of model.lora; did you mean 'sql'?"),
        (["metrics.accuracy={_target_: objectives.accuracy.Accuracy, tasks: [everyday]}"], "choose one by engine."),
    ],
)
def test_requests_ask_for_adapters_that_exist_and_tasks_for_one(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    lora = ", ".join(f"{name}: {adapter(tmp_path / name)}" for name in ("sql", "chat"))
    assert message in refusal(here(tmp_path, f"model.lora={{{lora}}}", *words))


def test_a_model_whose_format_nobody_could_tell_is_refused_before_any_engine(tmp_path: Path) -> None:
    weights = tmp_path / "model-Q4_K_M.gguf"
    weights.touch()
    assert refusal(here(tmp_path, f"model.path={weights}")).startswith(f"model.path={weights} is in GGUF format")
    own = here(tmp_path, "recipes.int4.scheme=null", "recipes.int4.checkpoint=somebody/model.gguf")
    assert refusal(own).startswith("recipes.int4.checkpoint=somebody/model.gguf is in GGUF format")


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_quantized_model_is_not_quantized_again(kind: str, tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS[kind])
    quantized = (f"model.path={model}", "constraints={}")
    assert refusal(here(tmp_path, *quantized)) == (
        f"model.path={model} is quantized already ({kind} int4), and int8, int4 would quantize it again: "
        "serve it as it is, 'search_space.quantization=null', or give the model that it was made from"
    )
    fixed = here(tmp_path, *quantized, "search_space.quantization=null", "quantization.scheme=W8A8")
    assert "and published would quantize it again: serve it as it is, quantization=published" in refusal(fixed)


def test_a_quantized_model_is_served_as_it_is_with_any_data_type(tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS["gptq"])
    for choice in ("search_space.quantization=null", "search_space.quantization=[published, fp16, bf16]"):
        plan = make_plan(here(tmp_path, f"model.path={model}", choice))
        assert dict(plan.space.vllm_defaults({"published": str(model)}).engine.flags).keys() == {
            "enforce_eager", "kv_cache_memory_bytes", "max_model_len",
        }  # fmt: skip


@pytest.mark.parametrize("turns", ["last", "all"])
def test_engines_say_what_they_found_cached_where_conversations_are_sent_turn_by_turn(
    tmp_path: Path, turns: str
) -> None:
    plan = make_plan(bare(tmp_path, f"workload.turns={turns}"))
    assert isinstance(plan.launcher, VllmLauncher)
    reports = "--enable-prompt-tokens-details" in plan.launcher.arguments("m", 1, {})
    assert reports == (turns == "all") == (plan.workload.conversations is not None)
