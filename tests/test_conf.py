"""Every YAML of every group composes into the typed schema, and what it names can be built."""

import datetime
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler

from objectives import Objective
from optimize.config.compose import to_typed
from optimize.config.instantiate import build
from optimize.config.locations import CONF
from optimize.config.registry import register
from optimize.config.schema import StudyConfig
from optimize.decision.constraints import make_limits, read_bounds
from optimize.errors import ConfigError
from optimize.search.space import SearchSpace, make_space

GROUPS = {
    "alerts", "model", "engine", "space", "quantization", "workload", "load", "objectives", "constraints", "sampler",
    "scenario", "tracking", "executor", "hardware", "study",
}  # fmt: skip
STUDIES = ["smoke", "chat", "bulk", "abtest", "capacity"]
LEFT_OPEN = {
    "engine=remote": "engine.base_url=http://127.0.0.1:8000",
    "load=trace": "load.arrivals.path=tests/data/trace.jsonl",
    "workload=file": "workload.path=prompts.jsonl",
    "constraints=cost": "hardware.hourly_usd=1.5",
    "objectives=[usd_per_million_tokens]": "hardware.hourly_usd=1.5",
    "objectives=[usd_per_thousand_requests]": "hardware.hourly_usd=1.5",
}
"""Values that a choice leaves to the user."""
CHOICES = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in sorted(GROUPS)}


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)


def _compose(*overrides: str) -> StudyConfig:
    return to_typed(compose("config", overrides=list(overrides)))


def _with(group: str, choice: str) -> StudyConfig:
    """A configuration with this choice of a group."""
    return _study(choice) if group == "study" else _round(CHOICES[group].index(choice))


@cache
def _study(name: str) -> StudyConfig:
    return _compose(f"+study={name}")


@cache
def _round(number: int) -> StudyConfig:
    """The nth choice of every group together, from the first again where a group has fewer: composing takes time."""
    choices = {group: names[number % len(names)] for group, names in CHOICES.items() if group != "study"}
    words = [
        f"{group}=[{choice}]" if group == "objectives" else f"{group}={choice}" for group, choice in choices.items()
    ]
    return _compose(*words, *dict.fromkeys(LEFT_OPEN[word] for word in words if word in LEFT_OPEN))


@cache
def _defaults() -> StudyConfig:
    return _compose()


def _space(config: StudyConfig) -> SearchSpace:
    return make_space(config.search_space, config.model, config.recipes, config.quantization, config.baseline)


def test_groups_and_studies_are_those_of_the_design() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == GROUPS
    assert {path.stem for path in (CONF / "study").glob("*.yaml")} == set(STUDIES)
    assert {path.stem for path in (CONF / "study" / "smollm2").iterdir()} == set(STUDIES)


@pytest.mark.parametrize(("group", "choice"), [(group, name) for group, names in CHOICES.items() for name in names])
def test_every_choice_composes_and_what_it_names_can_be_built(group: str, choice: str) -> None:
    config = _with(group, choice)
    space = _space(config)
    assert isinstance(build(config.sampler, "sampler", seed=0, space=space.distributions), BaseSampler)
    for name, node in {**config.objectives, **config.metrics}.items():
        assert isinstance(build(node, f"objectives.{name}"), Objective)
    assert build(config.load.arrivals, "load.arrivals").describe()
    assert build(config.engine, "engine").version()


@pytest.mark.parametrize("choice", STUDIES)
def test_studies_fit_together(choice: str) -> None:
    config = _study(choice)
    assert config.study.name == choice
    assert config.scenario.name == ("chat" if choice == "smoke" else choice)
    others = {"accuracy", "perplexity", "capacity_users"}  # which count where they are objectives
    assert set(config.scenario.weights) <= {*config.objectives, *others}
    assert make_limits(read_bounds(config.constraints), {**config.metrics, **config.objectives})
    streamed = choice == "capacity"  # whose limit on the first token beams show nothing of
    assert {"quantization", "batch_size", *([] if streamed else ["beam_size"])} <= set(_space(config).distributions)


@pytest.mark.parametrize(
    ("choice", "workload"),
    [
        ("smoke", "completions"),
        ("chat", "conversations"),
        ("bulk", "documents"),
        ("abtest", "completions"),
        ("capacity", "conversations"),
    ],  # fmt: skip
)
def test_the_studies_of_a_real_model_have_its_prompts_and_fit_together(choice: str, workload: str) -> None:
    config = _compose("model=smollm2", f"+study=smollm2/{choice}")
    assert (config.study.name, config.workload.name) == (f"{choice}_smollm2", workload)
    assert make_limits(read_bounds(config.constraints), {**config.metrics, **config.objectives})
    speed = {"capacity_per_s"} if choice == "capacity" else {"qps", "p99_latency_s"}
    assert set(config.objectives) == {*speed, "memory_bytes", "perplexity"}  # BLEU is against own free text
    assert set(config.scenario.weights) >= set(config.objectives)
    core = set() if choice == "smoke" else {"env.VLLM_CPU_NUM_OF_RESERVED_CPU"}
    assert set(_space(config).distributions) == {"quantization", "batch_size", *core}


def test_a_model_chooses_the_prompts_where_no_study_and_no_user_does() -> None:
    assert _compose("model=smollm2").workload.name == "conversations"
    assert _compose("model=smollm2", "workload=demo_chat").workload.name == "demo_chat"


def test_the_baseline_of_a_model_without_flags_is_served_by_vllms_plain_command() -> None:
    config = _compose("model=llama3_8b", "+study=chat", "study.name=plain")
    engine = _space(config).vllm_defaults({"published": config.model.path}).engine
    command = build(config.engine, "engine").deploy_command(engine)
    assert command.endswith(f"vllm serve {config.model.path} --host=127.0.0.1")  # before it, the machine's variables


@pytest.mark.parametrize("name", CHOICES["quantization"])
def test_the_search_may_choose_every_recipe_by_its_name(name: str) -> None:
    config = _with("quantization", name)
    assert config.recipes[name] == config.quantization
    assert config.quantization.name == name


@pytest.mark.parametrize("name", [name for name in CHOICES["hardware"] if name != "auto"])
def test_every_price_has_a_source_and_a_date_and_is_compared(name: str) -> None:
    hardware = _defaults().instances[name]
    assert _with("hardware", name).hardware.name == hardware.name == name
    assert hardware.provider in ("aws", "gcp", "alibaba") and hardware.region
    assert hardware.hourly_usd and hardware.hourly_usd > 0 and hardware.accelerators > 0
    assert hardware.price_source and hardware.price_note and datetime.date.fromisoformat(hardware.price_date)


@pytest.mark.parametrize("name", CHOICES["objectives"])
def test_every_objective_file_defines_one_objective_of_its_own_name(name: str) -> None:
    assert list(_with("objectives", name).objectives) == [name]


def test_defaults() -> None:
    config = _defaults()
    assert list(config.objectives) == ["qps", "p99_latency_s", "memory_bytes", "bleu"]
    assert config.study.name == config.scenario.name
    assert config.tracking.storage == "sqlite:///mlruns/optuna.db"
    assert config.tracking.uri == "sqlite:///mlruns/mlflow.db"


def test_files_follow_the_output_folder() -> None:
    config = _compose("output_dir=elsewhere")
    assert config.tracking.storage == "sqlite:///elsewhere/optuna.db"
    assert config.tracking.artifacts == "elsewhere/artifacts"


def test_a_server_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://db/optuna")
    tracking = _compose("tracking=server").tracking
    assert (tracking.uri, tracking.storage) == ("http://127.0.0.1:5000", "postgresql://db/optuna")


# Overrides as documented


@pytest.mark.parametrize(
    ("study", "load"),
    [
        ("smoke", "poisson"), ("chat", "ramp"), ("bulk", "steps"), ("abtest", "constant"), ("abtest", "closed"),
        ("capacity", "capacity_users"), ("smollm2/capacity", "capacity_users"),
    ],
)  # fmt: skip
def test_a_study_takes_another_load(study: str, load: str) -> None:
    config = _compose(f"+study={study}", f"load={load}")
    assert build(config.load.arrivals, "load.arrivals").describe()
    assert config.load.window_min_s == _study(study).load.window_min_s


def test_a_range_is_narrowed() -> None:
    distributions = _space(_compose("search_space.batch_size.high=128")).distributions
    assert distributions["batch_size"] == IntDistribution(1, 128, log=True)


def test_a_knob_is_removed() -> None:
    assert "workers" not in _space(_compose("~search_space.workers")).distributions


def test_any_flag_of_vllm_becomes_a_knob() -> None:
    node = "{_target_: optuna.distributions.IntDistribution, low: 256, high: 4096, log: true}"
    space = _space(_compose(f"+search_space.max_num_batched_tokens={node}"))
    assert space.distributions["max_num_batched_tokens"] == IntDistribution(256, 4096, log=True)
    assert "max_num_batched_tokens" in space.engine_flags


def test_a_plain_list_of_choices_becomes_a_knob() -> None:
    space = _space(_compose("+search_space.block_size=[32,128]"))
    assert space.distributions["block_size"] == CategoricalDistribution([32, 128])


def test_overrides_beat_the_study_they_come_with() -> None:
    config = _compose("+study=smoke", "study.trials=5", "search_space.beam_size.choices=[1]", "load.arrivals.users=2")
    assert (config.study.trials, config.load.arrivals["users"]) == (5, 2)
    assert _space(config).distributions["beam_size"] == CategoricalDistribution([1])


@pytest.mark.parametrize(("choice", "key"), [("engine=remote", "engine.base_url"), ("workload=file", "workload.path")])
def test_a_value_that_a_choice_leaves_open_must_be_set(choice: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is not set"):
        _compose(choice)


def test_workloads_and_model_of_the_demo_lie_in_its_folder() -> None:
    paths = [_study(name).workload.path for name in STUDIES]
    assert {Path(p).parts[0] for p in [*paths, _defaults().model.path]} == {"demo"}
