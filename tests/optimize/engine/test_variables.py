"""Environment variables of engines: which may be set or searched, and where they count."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.config.compose import configuration
from optimize.driver.known_failures import _recipe_key
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.variables import check_variables, default_values, vllm_variables
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.evaluation.answers import answers_key
from optimize.plan import make_plan

BIND, BOUND = "VLLM_CPU_OMP_THREADS_BIND", (("VLLM_CPU_OMP_THREADS_BIND", "0-1"),)
PLAIN, OWN = EngineConfig("m", "published"), EngineConfig("m", "published", (), BOUND)
KEY_BEFORE = "7c56f474e818"
"""Key of the first as versions without variables computed it."""


def test_vllms_variables_and_their_defaults_are_read_from_its_source() -> None:
    assert {BIND, "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_LEVEL", "CUDA_VISIBLE_DEVICES"} <= vllm_variables()
    assert (default_values()[BIND], default_values()["VLLM_CPU_ATTN_SPLIT_KV"]) == ("auto", True)
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in default_values()  # None


@pytest.mark.parametrize("name", [BIND, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "MALLOC_ARENA_MAX", "LD_PRELOAD"])
def test_variables_that_vllm_and_its_libraries_read_are_knobs(name: str) -> None:
    check_variables([], [name])


@pytest.mark.parametrize("name", ["MY_TOKEN", "MY_PLUGINS_MODE", BIND, "HF_TOKEN", "VLLM_CACHE_ROOT"])
def test_fixed_variables_may_be_of_the_users_own(name: str) -> None:
    check_variables([name], [])


@pytest.mark.parametrize(
    ("fixed", "searched", "message"),
    [
        ([], ["VLLM_CPU_OMP_THREAD_BIND"], "search_space.env.VLLM_CPU_OMP_THREAD_BIND: .*did you mean '" + BIND),
        (["VLLM_CPU_OMP_THREAD_BIND"], [], "engine.env.VLLM_CPU_OMP_THREAD_BIND: .*did you mean '" + BIND),
        (["VLMM_LOGGING_LEVEL"], [], "did you mean 'VLLM_LOGGING_LEVEL'"),
        ([], ["MY_PLUGINS_MODE"], "neither vLLM .* nor a library that it is known to use reads this variable"),
        ([], ["HF_TOKEN"], "named like a secret, and no study tries secrets"),
        ([], ["VLLM_API_KEY"], "is decided by this project itself"),
        (["OPTIMIZE_ENGINE_KEY"], [], "is decided by this project itself"),
        (["VLLM_SERVER_DEV_MODE"], [], "is decided by this project itself"),
        (["VLLM_NO_USAGE_STATS"], [], "is decided by this project itself"),
        ([], ["CUDA_VISIBLE_DEVICES"], "must be the same for all engines"),
        ([BIND], [BIND], "is also fixed by engine.env or hardware.env"),
    ],
)
def test_other_variables_are_refused(fixed: list[str], searched: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_variables(fixed, searched)


def test_an_engine_with_other_variables_is_another_engine() -> None:
    assert len({OWN.key, PLAIN.key, EngineConfig("m", "published", (), ((BIND, "0"),)).key}) == 3
    assert PLAIN.key == KEY_BEFORE
    ours, plain = TrialConfig(OWN, RequestConfig()), TrialConfig(PLAIN, RequestConfig())
    assert answers_key(ours) != answers_key(plain)
    assert _recipe_key(ours.shown()["engine"]) != _recipe_key(plain.shown()["engine"])


def test_the_deploy_command_holds_fixed_variables_and_the_trials_own() -> None:
    launcher = VllmLauncher(env={"VLLM_LOGGING_LEVEL": "INFO", BIND: "auto"})
    command = launcher.deploy_command(EngineConfig("m", "published", (), ((BIND, "0-1|2 3"), ("OMP_WAIT_POLICY", "x"))))
    assert {"VLLM_LOGGING_LEVEL=INFO", f"{BIND}=0-1|2 3", "OMP_WAIT_POLICY=x"} <= set(shlex.split(command))


def test_a_simulated_engine_gets_fixed_variables_and_its_own(tmp_path: Path) -> None:
    engine = SimulatedLauncher(env={"VLLM_LOGGING_LEVEL": "DEBUG"}).launch(OWN, tmp_path / "log")
    try:
        environments = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in engine.pids]
    finally:
        engine.stop()
    assert any({b"VLLM_LOGGING_LEVEL=DEBUG", f"{BIND}=0-1".encode()} <= set(e) for e in environments)


class RecordingLauncher(VllmLauncher):
    """A launcher whose fork servers are stubs."""

    def _import_vllm(self, variables: Mapping[str, str]) -> Any:
        self.imports.append(dict(variables))
        return SimpleNamespace(close=lambda: self.imports.append({}))

    @cached_property
    def imports(self) -> list[dict[str, str]]:
        """Variables of each import of vLLM, in order; empty where a fork server was closed."""
        return []


def test_vllm_is_imported_anew_for_an_engine_with_other_variables_only() -> None:
    launcher = RecordingLauncher(env={"VLLM_LOGGING_LEVEL": "INFO"})
    launcher.prepare()
    for config in (PLAIN, OWN, OWN, PLAIN):
        launcher._import_for(config)
    plain, own = {"VLLM_LOGGING_LEVEL": "INFO"}, {"VLLM_LOGGING_LEVEL": "INFO", BIND: "0-1"}
    assert launcher.imports == [plain, {}, own, {}, plain]


# In a configuration

SIMULATED = ["+study=chat", "study.name=env", "engine=simulated"]


def test_variables_of_a_configuration_are_knobs_with_vllms_defaults(tmp_path: Path) -> None:
    words = [
        *SIMULATED, f"output_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}", "search_space.batch_size=null",
        f"+search_space.env.{BIND}=[auto,0-1]", "+search_space.env.VLLM_CPU_ATTN_SPLIT_KV=[0,1]",
        "+search_space.env.OMP_WAIT_POLICY=[null,PASSIVE]", "+engine.env.VLLM_LOGGING_LEVEL=DEBUG",
    ]  # fmt: skip
    config = configuration(words)
    assert config.engine["env"] == {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "DEBUG"}
    space = make_plan(config).space
    assert space.variables == [BIND, "VLLM_CPU_ATTN_SPLIT_KV", "OMP_WAIT_POLICY"]
    assert space.engine_flags == ["api_server_count"]
    defaults = {f"env.{name}": default_values()[name] for name in (BIND, "VLLM_CPU_ATTN_SPLIT_KV")}
    params, outside = space.baseline_params(defaults)
    assert (params[f"env.{BIND}"], params["env.VLLM_CPU_ATTN_SPLIT_KV"], params["env.OMP_WAIT_POLICY"]) == (
        "auto", 1, None,
    )  # fmt: skip
    assert outside == []
    checkpoints = {recipe.name: "m" for recipe in space.recipes_needed()}
    point = {**params, f"env.{BIND}": "0-1", "env.OMP_WAIT_POLICY": "PASSIVE"}
    engine = space.resolve(point, checkpoints).engine
    assert engine.env == (("OMP_WAIT_POLICY", "PASSIVE"), ("VLLM_CPU_ATTN_SPLIT_KV", "1"), (BIND, "0-1"))
    assert not any(name.startswith("env") for name, _ in engine.flags)
    assert space.vllm_defaults(checkpoints).engine.env == ()


def test_one_configuration_by_hand_takes_variables() -> None:
    config = configuration(["+study=chat", f"+at.env.{BIND}=0-1", "+at.batch_size=8"])
    assert config.at == {"batch_size": 8, f"env.{BIND}": "0-1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+search_space.env=5"], "search_space.env must map names of environment variables"),
        (["+search_space.env.A-B=[1,2]"], "'A-B' is no name of an environment variable"),
        (["+search_space.env.VLLM_LOGGING_LEVEL=['${oc.env:A_VARIABLE}',INFO]"], "no study tries secrets"),
        (["+at.env.VLLM_LOGGING_LEVEL=[a,b]"], "at.env.VLLM_LOGGING_LEVEL must be one value"),
        (
            ["engine=remote", "engine.base_url=http://127.0.0.1:1", "space=request", "quantization=published",
             "+search_space.env.VLLM_LOGGING_LEVEL=[INFO,DEBUG]"],
            "engine=remote can tune request knobs only, got engine knobs env.VLLM_LOGGING_LEVEL",
        ),
    ],
)  # fmt: skip
def test_what_is_no_variable_is_refused_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_VARIABLE", "Zq-value-from-the-environment/1")
    with pytest.raises(ConfigError, match=message):
        make_plan(configuration([*SIMULATED, *words, f"output_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]))
