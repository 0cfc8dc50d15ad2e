"""A plan is built from a valid configuration, or refused for what does not fit the engine, the model or the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.checkpoint import hashes, own_answers
from optimize.config.measuring import BASELINE, WORKLOAD
from optimize.config.schema import RandomWeights, StudyConfig
from optimize.config.validate import validate
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.plan import content_of, make_plan
from optimize.study.target import only_point
from tests.adapters import adapter
from tests.conftest import ROOT
from tests.optimize.harness.stand_in import install
from tests.overrides import changed
from tests.packed import CONFIGS, described

INT = "_target_: optuna.distributions.IntDistribution"
CHOICE = "_target_: optuna.distributions.CategoricalDistribution"
FIXED = "_target_: optimize.workload.lengths.Fixed"
USER_METRIC = "_target_: objectives.quality.UserMetric"
RAMP = "{_target_: optimize.load.arrivals.Ramp, from_per_s: 1, to_per_s: 2, ramp_s: %s}"


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def _here(folder: Path, *overrides: str) -> StudyConfig:
    """The chat study with its files under a folder; on the real launcher, whose checks must hold."""
    stored = [f"tracking.storage=sqlite:///{folder}/out/optuna.db", f"tracking.uri=sqlite:///{folder}/out/mlflow.db"]
    return changed(f"output_dir={folder}/out", f"cache_dir={folder}/cache", *stored, *overrides)


def _refusal(config: StudyConfig) -> str:
    validate(config)
    with pytest.raises(ConfigError) as refusal:
        make_plan(config)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_plan_holds_what_the_configuration_names(tmp_path: Path) -> None:
    plan = make_plan(_here(tmp_path))
    assert list(plan.objectives) == ["qps", "p99_latency_s", "memory_bytes", "bleu"]
    assert plan.folder == tmp_path / "out/studies/chat"
    assert plan.workload.name == "demo_chat" and len(plan.workload.references) == len(plan.workload.prompts)
    assert {"batch_size", "beam_size", "quantization"} <= set(plan.space.distributions)


PEOPLES_FILES = {
    "sharegpt.json": '[{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hallo"}]}]',
    "chat.jsonl": '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hallo"}]}',
    "num.csv": "question,answer\nTwo plus three?,5\n",
    "bare.jsonl": '{"prompt": "Say 0"}\n{"prompt": "Say 1"}\n',
}


@pytest.mark.parametrize("name", PEOPLES_FILES)
def test_a_file_is_planned_in_one_step_without_a_column_named(name: str, tmp_path: Path) -> None:
    """Whatever it has: answers are scored against its own, or else against those of the model itself."""
    (tmp_path / name).write_text(PEOPLES_FILES[name], encoding="utf-8")
    plan = make_plan(_here(tmp_path, f"workload.path={tmp_path}/{name}"))
    assert plan.reference == (BASELINE if name == "bare.jsonl" else WORKLOAD)
    (note, *_) = plan.workload.notes
    assert name in note and "\n" not in note


def test_references_are_needed_where_they_are_asked_for_by_a_metric_that_scores(tmp_path: Path) -> None:
    (tmp_path / "bare.jsonl").write_text(PEOPLES_FILES["bare.jsonl"], encoding="utf-8")
    config = _here(tmp_path, f"workload.path={tmp_path}/bare.jsonl", "quality.reference=workload")
    assert "name the column of the references, workload.reference_column=..." in _refusal(config)
    config.objectives, config.constraints = {n: o for n, o in config.objectives.items() if n != "bleu"}, {}
    assert not make_plan(config).workload.references


def test_the_lengths_of_an_earlier_version_are_written_as_they_were(tmp_path: Path) -> None:
    """With the bounds that chat.yaml had, so that a study of that version goes on."""
    bounds = ("load.warmup_max_s=6", "load.window_max_s=8", "load.drain_max_s=15", "load.request_timeout_s=60")
    assert make_plan(_here(tmp_path, *bounds)).signature["load"] == (
        "closed loop, 4 users; first_answer_max_s=180, warmup_s=1, warmup_requests=16, warmup_max_s=6, window_min_s=5, "
        "window_requests=40, window_max_s=8, window_look_s=2, drain_max_s=15, request_timeout_s=60, "
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
    assert message in _refusal(_here(tmp_path, *alone, override))


def test_accuracy_needs_no_references_and_its_tasks_are_part_of_the_conditions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "packages", monkeypatch)
    accuracy = "objectives.accuracy={_target_: objectives.accuracy.Accuracy, tasks: [%s]}"
    config = _here(tmp_path, accuracy % "everyday", f"workload.output_tokens={{{FIXED}, tokens: 5}}")
    del config.objectives["bleu"], config.constraints["bleu"]
    plan = make_plan(config)
    assert plan.signature["tasks"].startswith("everyday 1.0 (300 documents, ")
    assert plan.fingerprint()["tasks"] == plan.signature["tasks"]
    message = "accuracy: the harness has no task 'everydays'; did you mean 'everyday'?"
    assert message in _refusal(_here(tmp_path, accuracy % "everydays"))


UNSCORED = [
    ("quality.reference=workload", "objectives.bleu: answers cannot be"),
    (f"objectives.mine={{{USER_METRIC}, function: math.floor}}", "cannot score the workload's first prompt"),
]


@pytest.mark.parametrize(("override", "message"), UNSCORED)
def test_answers_of_set_lengths_are_scored_against_the_models_own_alone(
    tmp_path: Path, override: str, message: str
) -> None:
    assert message in _refusal(_here(tmp_path, f"workload.output_tokens={{{FIXED}, tokens: 5}}", override))


def _bare(folder: Path, *overrides: str) -> StudyConfig:
    """The chat study on a file of prompts alone."""
    (folder / "bare.jsonl").write_text("".join(f'{{"prompt": "the dog {i}"}}\n' for i in range(5)), encoding="utf-8")
    return _here(folder, f"workload.path={json.dumps(str(folder / 'bare.jsonl'))}", *overrides)


def test_prompts_alone_are_scored_against_the_models_own_answers(tmp_path: Path) -> None:
    plan = make_plan(_bare(tmp_path))
    assert (plan.reference, plan.workload.max_tokens) == (BASELINE, 128)
    assert plan.signature["quality"] == "against the unquantized model's own answers" == plan.fingerprint()["quality"]


def test_perplexity_is_that_of_the_models_own_answers_where_there_are_no_others(tmp_path: Path) -> None:
    config = _bare(tmp_path, "constraints={}", "objectives.perplexity={_target_: objectives.quality.Perplexity}")
    del config.objectives["bleu"]
    assert make_plan(config).reference == BASELINE


def test_references_of_the_workload_count_where_it_has_them_and_nobody_says_otherwise(tmp_path: Path) -> None:
    own = make_plan(_here(tmp_path))
    assert own.reference == WORKLOAD and "quality" not in own.signature
    assert make_plan(_here(tmp_path, "quality.reference=baseline")).reference == BASELINE


def test_the_model_is_not_asked_where_neither_an_objective_nor_a_constraint_scores_answers(tmp_path: Path) -> None:
    config = _bare(tmp_path, "constraints={}")
    del config.objectives["bleu"]
    assert make_plan(config).reference == WORKLOAD


def test_a_checkpoint_that_is_published_quantized_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}', encoding="utf-8")
    assert own_answers(str(tmp_path)) == "the published checkpoint's own answers"


def test_a_load_with_a_length_of_its_own_takes_no_number_of_iterations(tmp_path: Path) -> None:
    config = _here(tmp_path, f"load.arrivals={RAMP % 3}", "load.iterations.measured=5")
    assert "has a length of its own" in _refusal(config)


def test_a_model_whose_answers_mean_nothing_is_not_scored(tmp_path: Path) -> None:
    config = _here(tmp_path, "constraints={}")
    config.model.random = RandomWeights()
    assert "objectives.bleu: model demo has random weights" in _refusal(config)
    del config.objectives["bleu"]
    config.constraints = {"chrf": {"min": 1}}
    assert "constraints.chrf: model demo has random weights" in _refusal(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("at={max_num_seq: 64}", "did you mean 'max_num_seqs'"),
        ("at={quantization: int3}", "unknown quantization 'int3'"),
    ],
)
def test_one_configuration_is_checked_like_a_search_space(tmp_path: Path, override: str, message: str) -> None:
    assert message in _refusal(only_point(_here(tmp_path, override), "measure"))


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
    assert message in _refusal(_here(tmp_path, f"workload.path={json.dumps(str(tmp_path / 'w.jsonl'))}"))


def test_the_contents_of_files_that_flags_name_belong_to_the_study(tmp_path: Path) -> None:
    template, folder = tmp_path / "t.jinja", tmp_path / "adapter"
    template.write_text("a")
    folder.mkdir()
    overrides = [
        f"engine.flags.chat_template={template}",
        f"search_space.tokenizer={{{CHOICE}, choices: [{folder}, org/other]}}",
    ]
    before = make_plan(_here(tmp_path, *overrides)).fingerprint()
    assert set(json.loads(before["files"])) == {str(template), str(folder)}
    template.write_text("b")
    after = make_plan(_here(tmp_path, *overrides)).fingerprint()
    assert {key for key in after if after[key] != before[key]} == {"files"}
    assert "files" not in make_plan(_here(tmp_path)).fingerprint()


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
    assert message in _refusal(_here(tmp_path, override))


def test_a_secret_may_have_several_lines(tmp_path: Path) -> None:
    make_plan(_here(tmp_path, 'hardware.env.STORE_KEY="-----BEGIN\\nabcdef\\n"'))


def test_a_model_whose_format_nobody_could_tell_is_refused_before_any_engine(tmp_path: Path) -> None:
    weights = tmp_path / "model-Q4_K_M.gguf"
    weights.touch()
    assert _refusal(_here(tmp_path, f"model.path={weights}")).startswith(f"model.path={weights} is in GGUF format")


def test_adapters_are_asked_for_by_name_and_belong_to_the_study(tmp_path: Path) -> None:
    sql, chat = (str(adapter(tmp_path / name, rank=rank)) for name, rank in (("sql", 8), ("chat", 32)))
    words = (f"model.lora={{sql: {sql}, chat: {chat}}}", "engine.model=chat")
    plan = make_plan(_here(tmp_path, *words))
    assert plan.space.model.flags["lora_modules"] == [f"sql={sql}", f"chat={chat}"]
    assert plan.space.model.flags["max_lora_rank"] == 32
    before = plan.fingerprint()
    assert before["asks"] == "chat" and set(json.loads(before["files"])) == {sql, chat}
    adapter(tmp_path / "new", rank=8, scale=0.1).joinpath("adapter_model.safetensors").replace(
        tmp_path / "sql/adapter_model.safetensors"
    )
    hashes._HASHES.clear()  # of this process, which reads a folder once
    after = make_plan(_here(tmp_path, words[0])).fingerprint()
    assert {key for key in after if after[key] != before[key]} == {"files", "asks"} and after["asks"] == "sql, chat"
    assert content_of(plan, "demo/model") != content_of(make_plan(_here(tmp_path)), "demo/model")


def test_vllms_own_flag_names_the_adapters_too(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "sql")
    flags = (f"engine.flags.lora_modules=['sql={folder}']", "engine.flags.enable_lora=true")
    assert make_plan(_here(tmp_path, *flags)).signature["asks"] == "sql"
    assert "asks" not in make_plan(_here(tmp_path)).signature


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
    assert message in _refusal(_here(tmp_path, f"model.lora={{{lora}}}", *words))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_quantized_model_is_not_quantized_again(kind: str, tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS[kind])
    quantized = (f"model.path={model}", "constraints={}")
    assert _refusal(_here(tmp_path, *quantized)) == (
        f"model.path={model} is quantized already ({kind} int4), and int8, int4 would quantize it again: "
        "serve it as it is, 'search_space.quantization=null', or give the model that it was made from"
    )
    fixed = _here(tmp_path, *quantized, "search_space.quantization=null", "quantization.scheme=W8A8")
    assert "and published would quantize it again: serve it as it is, quantization=published" in _refusal(fixed)


def test_a_quantized_model_is_served_as_it_is_with_any_data_type(tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS["gptq"])
    for choice in ("search_space.quantization=null", "search_space.quantization=[published, fp16, bf16]"):
        plan = make_plan(_here(tmp_path, f"model.path={model}", choice))
        assert dict(plan.space.vllm_defaults({"published": str(model)}).engine.flags).keys() == {
            "enforce_eager", "kv_cache_memory_bytes", "max_model_len",
        }  # fmt: skip


@pytest.mark.parametrize("turns", ["last", "all"])
def test_engines_say_what_they_found_cached_where_conversations_are_sent_turn_by_turn(
    tmp_path: Path, turns: str
) -> None:
    plan = make_plan(_bare(tmp_path, f"workload.turns={turns}"))
    assert isinstance(plan.launcher, VllmLauncher)
    reports = "--enable-prompt-tokens-details" in plan.launcher.arguments("m", 1, {})
    assert reports == (turns == "all") == (plan.workload.conversations is not None)


@pytest.mark.parametrize(("turns", "requests"), [("last", 3), ("all", 5)])
def test_of_conversations_a_trace_says_only_when_they_arrive(tmp_path: Path, turns: str, requests: int) -> None:
    lines = [{"offset_s": second, "prompt_tokens": 9, "output_tokens": 7} for second in range(3)]
    (tmp_path / "trace.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    trace = f"{{_target_: optimize.load.arrivals.Trace, path: {tmp_path}/trace.jsonl}}"
    plan = make_plan(_bare(tmp_path, f"workload.turns={turns}", f"load.arrivals={trace}", "constraints={}"))
    assert len(plan.workload.prompts) == requests
    assert (plan.workload.output_tokens is None) == (plan.workload.conversations is not None) == (turns == "all")
