"""Proxies of the environment: never for this machine, the same for the check of an endpoint and the load on it."""

from __future__ import annotations

import ast
import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import httpx
import pytest
import requests

from optimize.config.serve import Serve
from optimize.deploy.compose import _PROBE
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.proxies import proxy_of, with_direct_loopback
from optimize.engine.remote import RemoteLauncher
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import ConfigError
from optimize.evaluation.perplexity import score_references
from optimize.evaluation.telemetry import Telemetry
from optimize.load.client import Client
from optimize.load.protocol import Bounds
from optimize.load.session import open_session
from optimize.serve.probe import Probe
from optimize.serve.warmup import warm_up
from tests.conftest import ROOT, Run
from tests.optimize.servers import RecordingProxy, recording_proxy

ELSEWHERE = "http://models.example"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with recording_proxy() as proxy:
        yield proxy


def use_engine(engine: VllmEngine) -> None:
    """Everything that asks a live engine, once."""
    engine.reset()
    engine.memory()
    score_references(engine.endpoint, ["a b"], ["c d"])
    warm_up(engine.endpoint)
    probe = Probe(engine, Serve())
    assert probe.run().healthy
    probe.close()
    telemetry = Telemetry(engine)
    with telemetry.sampling():
        deadline = time.monotonic() + 30
        while "kv_cache_use" not in telemetry.series(0.0) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "kv_cache_use" in telemetry.series(0.0)


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_an_engine_of_this_machine_is_never_asked_by_way_of_a_proxy(
    tmp_path: Path, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, proxy.url)
    engine = SimulatedLauncher().launch(EngineConfig(str(ROOT / "demo/model"), "fp16"), tmp_path / "log")
    try:
        use_engine(engine)
    finally:
        engine.stop()
    assert proxy.requests == []


def test_a_socks_proxy_without_its_library_does_not_matter_to_an_engine_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    SimulatedLauncher().launch(EngineConfig("m", "fp16"), tmp_path / "log").stop()


def test_a_command_behind_a_proxy_measures_an_engine_of_this_machine(
    optimize: Run, simulated: list[str], proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first check to the record: every client of the command, and every process that it starts."""
    monkeypatch.setenv("no_proxy", "")  # what the command sets in its place ends with the test
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    result = optimize(simulated, verb="optimize.measure")
    assert result.returncode == 0, result.stderr
    assert proxy.requests == []


def test_a_containers_own_check_of_its_health_is_direct(proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    with recording_proxy() as server:
        exec(_PROBE.replace("http://127.0.0.1:8000", server.url), {})
        assert [r[:2] for r in server.requests] == [("GET", "/health")]
    assert proxy.requests == []


def test_a_remote_endpoints_check_and_its_load_take_the_same_way(
    tmp_path: Path, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    engine = RemoteLauncher(base_url=ELSEWHERE).launch(EngineConfig("m", "fp16"), tmp_path / "log")
    engine.check()

    async def load() -> str:
        async with open_session(engine.endpoint) as session:
            client = Client(session, engine.endpoint, RequestConfig(), Bounds(7, 30), time.monotonic)
            return (await client.send(0, "hello", 0.0)).text

    assert asyncio.run(load()) == "by proxy"
    models, completions = f"{ELSEWHERE}/v1/models", f"{ELSEWHERE}/v1/completions"
    assert [r[:2] for r in proxy.requests] == [("GET", models), ("GET", models), ("POST", completions)]


def test_a_remote_endpoint_that_cannot_be_reached_by_a_proxy_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:hush@127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"proxy http://\S*127.0.0.1:9, which no_proxy can exempt it from") as error:
        RemoteLauncher(base_url=ELSEWHERE).preflight([])
    assert "hush" not in str(error.value)


def test_a_socks_proxy_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="set http_proxy to an HTTP proxy, or add models.example to no_proxy"):
        RemoteLauncher(base_url=ELSEWHERE).preflight([])


@pytest.mark.parametrize(
    ("url", "exempt", "expected"),
    [
        ("http://models.example:8000", "", "http://proxy:3128"),
        ("http://models.example:8000", "models.example", None),
        ("http://models.example:8000", "models.example:8000", None),
        ("http://models.example:8000", ".example", None),
        ("http://models.example:8000", "other.example", "http://proxy:3128"),
        ("http://models.example", "*", None),
        ("http://10.1.2.3", "10.0.0.0/8", None),
        ("http://11.1.2.3", "10.0.0.0/8", "http://proxy:3128"),
        ("http://[fd00::1]:8000", "fd00::1", None),
        ("https://models.example", "", None),
        ("http://localhost:1", "", None),
        ("http://127.8.9.1", "", None),
        ("http://[::1]:1", "", None),
        ("http://[::ffff:127.0.0.1]:1", "", None),
        ("http://0.0.0.0:1", "", None),
        ("http://localhost.example", "", "http://proxy:3128"),
    ],
)
def test_which_addresses_are_asked_by_way_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, exempt: str, expected: str | None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy:3128")
    monkeypatch.setenv("no_proxy", exempt)
    assert proxy_of(url) == expected


@pytest.mark.parametrize("ask", [requests.get, httpx.get, urlopen], ids=["requests", "httpx", "urllib"])
def test_other_libraries_in_this_process_and_its_children_ask_this_machine_directly(
    proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object]
) -> None:
    """MLflow's client is such a library, and so is whatever an engine loads."""
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "somewhere.example")
    for name, value in with_direct_loopback(os.environ).items():
        monkeypatch.setenv(name, value)
    with recording_proxy() as server:
        ask(f"{server.url}/v1/models")
        assert [r[:2] for r in server.requests] == [("GET", "/v1/models")]
    assert proxy.requests == []


def test_an_engines_environment_exempts_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "somewhere.example")
    env = VllmLauncher(env={"https_proxy": "http://proxy:3128"})._environment("key")
    assert env["no_proxy"] == env["NO_PROXY"] == "somewhere.example,localhost,127.0.0.1,::1"


def test_an_environment_without_a_proxy_is_left_alone() -> None:
    assert with_direct_loopback({"PATH": "/bin"}) == {"PATH": "/bin"}
    assert with_direct_loopback({"http_proxy": "p", "no_proxy": "*"})["no_proxy"] == "*"


# --- every module

ASKS = {"get", "post", "put", "delete", "head", "stream", "request", "Client", "AsyncClient"}


def undecided(tree: ast.AST) -> list[int]:
    """Lines that ask by HTTP and leave it to the environment whether a proxy is asked in place of the server."""
    lines = []
    for call in ast.walk(tree):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
        ):
            module, name = call.func.value.id, call.func.attr
            words = {k.arg for k in call.keywords} | {ast.unparse(k.value) for k in call.keywords if k.arg is None}
            decided = "trust_env" in words or any("route_of" in word for word in words if word)
            if module == "httpx" and name in ASKS and not decided:
                lines.append(call.lineno)
            if module == "aiohttp" and name == "ClientSession" and "trust_env" in words:
                lines.append(call.lineno)
    return lines


def test_no_module_leaves_the_way_of_a_request_to_the_environment() -> None:
    assert undecided(ast.parse("httpx.get(url)")) and undecided(ast.parse("httpx.Client(base_url=url)"))
    assert not undecided(ast.parse("httpx.get(url, **route_of(url))"))
    paths = [p for folder in ("optimize", "benchmarks", "demo") for p in (ROOT / folder).rglob("*.py")]
    assert {str(p): lines for p in paths if (lines := undecided(ast.parse(p.read_text(encoding="utf-8"))))} == {}
