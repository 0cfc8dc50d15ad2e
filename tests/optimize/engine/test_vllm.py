"""How a vLLM server is to be started, as far as that can be seen without starting one."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from optimize.config.compose import configuration
from optimize.engine import vllm
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher
from optimize.entries import is_marked
from optimize.errors import ConfigError
from optimize.serve.session import make_launcher

ENV = {"VLLM_CPU_KVCACHE_SPACE": "1", "OTHER": "2"}


def command(*flags: tuple[str, object]) -> list[str]:
    launcher = VllmLauncher(flags={"max_model_len": 256}, env=ENV)
    return shlex.split(launcher.deploy_command(EngineConfig("some/model", "fp16", flags)))


def test_the_deploy_command_holds_environment_fixed_flags_and_the_trials_own() -> None:
    assert command(("max_num_seqs", 8), ("max_model_len", 128)) == [
        "OTHER=2", "VLLM_CPU_KVCACHE_SPACE=1", "vllm", "serve", "some/model", "--host=127.0.0.1", "--max-model-len=128",
        "--max-num-seqs=8",
    ]  # fmt: skip


def test_the_flag_for_the_kv_cache_overrides_the_older_variable() -> None:
    """vLLM itself would let the variable win, and whole GiB are more than a small model needs."""
    words = command(("kv_cache_memory_bytes", 1 << 28))
    assert "--kv-cache-memory-bytes=268435456" in words and "OTHER=2" in words
    assert not any("VLLM_CPU_KVCACHE_SPACE" in word for word in words)


def test_engines_say_what_they_found_cached_only_where_they_are_asked_to_and_never_once_deployed() -> None:
    flag, launcher = "--enable-prompt-tokens-details", VllmLauncher()
    assert flag not in launcher.arguments("some/model", 8000, {})
    launcher.report_cached_tokens()
    arguments = launcher.arguments("some/model", 8000, {"enable_prompt_tokens_details": False})
    assert arguments.index(flag) < arguments.index("--no-enable-prompt-tokens-details")  # the user's own word counts
    assert flag not in launcher.deploy_command(EngineConfig("some/model", "fp16"))
    assert flag not in launcher.for_clients(0).arguments("some/model", 8000, {})


def test_the_kind_of_start_must_be_valid() -> None:
    with pytest.raises(ConfigError, match="engine.start must be auto, warm or cold, got 'hot'"):
        VllmLauncher(start="hot")


def test_niceness_has_bounds() -> None:
    with pytest.raises(ConfigError, match=r"engine.niceness must be auto or 0 to 19, got 20"):
        VllmLauncher(niceness=20)
    with pytest.raises(ConfigError, match=r"engine.niceness must be auto or 0 to 19, got 'low'"):
        VllmLauncher(niceness="low")


def test_engines_are_nice_where_they_are_measured_and_not_where_they_serve() -> None:
    config = configuration(["+study=chat"])
    measured, served = make_launcher(config), make_launcher(config, niceness=0)
    assert isinstance(measured, VllmLauncher) and isinstance(served, VllmLauncher)
    assert (measured.niceness, served.niceness) == ("auto", 0)


@pytest.mark.parametrize(("build", "aot"), [("vllm-cpu", "0"), ("vllm", None)])
def test_all_that_is_compiled_is_kept_in_the_cache(
    build: str, aot: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "vllm_distribution", lambda: (build, "0.32.0"))
    monkeypatch.delenv("VLLM_USE_AOT_COMPILE", raising=False)
    monkeypatch.setenv("VLLM_CACHE_ROOT", "/elsewhere")
    environment = VllmLauncher(compile_cache=str(tmp_path / "compiled"))._environment("key")
    entry = tmp_path / "compiled" / f"{build}-0.32.0"
    assert is_marked(entry)
    assert environment["VLLM_CACHE_ROOT"] == environment["TORCHINDUCTOR_CACHE_DIR"] == str(entry)
    assert environment["TRITON_CACHE_DIR"] == str(entry / "triton")
    assert environment.get("VLLM_USE_AOT_COMPILE") == aot
    own = VllmLauncher(compile_cache=str(tmp_path / "compiled"), env={"VLLM_CACHE_ROOT": "/mine"})
    assert own._environment("key")["VLLM_CACHE_ROOT"] == "/mine"


def test_no_limit_of_vllms_own_ends_a_start() -> None:
    assert int(VllmLauncher()._environment("key")["VLLM_ENGINE_READY_TIMEOUT_S"]) > 86400


def test_importing_vllm_starts_no_threads_so_that_engines_can_be_forked() -> None:
    """Its humming starts some where this is not set, and CUDA engines all started cold."""
    assert VllmLauncher()._environment("key")["HUMMING_DISABLE_PARALLEL_BUILD"] == "1"
    own = VllmLauncher(env={"HUMMING_DISABLE_PARALLEL_BUILD": "0"})
    assert own._environment("key")["HUMMING_DISABLE_PARALLEL_BUILD"] == "0"


def test_a_cold_engine_spawns_its_processes_as_the_command_of_vllm_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[Mapping[str, str]] = []
    monkeypatch.setattr(vllm, "ColdTree", lambda command, env, log, grace_s: environments.append(env))
    for env in ({}, {"VLLM_WORKER_MULTIPROC_METHOD": "fork"}):
        VllmLauncher()._tree([], env, tmp_path / "log", None)
    assert [env["VLLM_WORKER_MULTIPROC_METHOD"] for env in environments] == ["spawn", "fork"]
