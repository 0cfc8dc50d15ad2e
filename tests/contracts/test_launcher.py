"""The contract of launchers, tested on each of them; `tests/live/test_contract.py` tests it on vLLM."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from optimize.engine.base import Endpoint, EngineConfig, Launcher
from optimize.engine.remote import RemoteLauncher
from optimize.engine.simulated import SimulatedLauncher
from optimize.errors import ConfigError, EngineFailure
from tests.conftest import ROOT

CONFIG = EngineConfig(
    str(ROOT / "demo/model"), "fp16", (("dtype", "float16"), ("enforce_eager", True), ("max_model_len", 256))
)


@pytest.fixture(params=["simulated", "remote"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launcher]:
    if request.param == "simulated":
        yield SimulatedLauncher()
    else:
        engine = SimulatedLauncher().launch(CONFIG, tmp_path / "served.log")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ENDPOINT_KEY", str(engine.endpoint.api_key))
            yield RemoteLauncher(base_url=engine.endpoint.base_url, api_key_env="ENDPOINT_KEY")
        engine.stop()


def test_a_started_engine_answers_until_it_is_stopped(launcher: Launcher, tmp_path: Path) -> None:
    assert launcher.version()
    launcher.preflight([])
    for number in range(2):  # a launcher starts one engine after another
        engine = launcher.launch(CONFIG, tmp_path / f"{number}.log")
        engine.check()
        engine.reset()
        answer = httpx.post(
            f"{engine.endpoint.base_url}/v1/completions", headers=engine.endpoint.headers, timeout=60,
            json={"model": engine.endpoint.model, "prompt": "the dog sees\n", "max_tokens": 4},
        )  # fmt: skip
        assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] > 0
        pids = list(engine.pids)
        memory = engine.memory()
        assert (memory is None) == launcher.request_knobs_only
        engine.stop()
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert launcher.request_knobs_only or not listens(engine.endpoint)


def test_no_path_answers_without_the_key(launcher: Launcher, tmp_path: Path) -> None:
    engine = launcher.launch(CONFIG, tmp_path / "log")
    foreign = {**engine.endpoint.headers, "Host": "rebound.example"}
    try:
        with httpx.Client(base_url=engine.endpoint.base_url) as http:
            for path in ("/health", "/metrics", "/v1/models", "/collective_rpc", "/reset_prefix_cache", "/nothing"):
                for method in ("GET", "POST", "OPTIONS"):
                    assert http.request(method, path).status_code == 401
                    assert http.request(method, path, headers=foreign).status_code == 401
    finally:
        engine.stop()


def listens(endpoint: Endpoint) -> bool:
    port = int(endpoint.base_url.rpartition(":")[2])
    connections = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port]
    return any(c.status == psutil.CONN_LISTEN for c in connections)


def test_unknown_flags_are_refused_before_anything_starts(launcher: Launcher) -> None:
    with pytest.raises(ConfigError, match="max_num_sequences"):
        launcher.preflight(["max_num_sequences"])


def test_a_configuration_that_cannot_run_is_an_engine_failure_with_its_cause(tmp_path: Path) -> None:
    launcher = SimulatedLauncher(oom_above_seqs=200)
    with pytest.raises(EngineFailure, match="out of memory") as caught:
        launcher.launch(EngineConfig("m", "fp16", (("max_num_seqs", 512),)), tmp_path / "log")
    assert caught.value.kind == "device_oom" and caught.value.evidence


def test_an_endpoint_that_does_not_answer_is_bad_input() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launcher = RemoteLauncher(base_url=f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(ConfigError, match="does not answer"):
        launcher.preflight([])
