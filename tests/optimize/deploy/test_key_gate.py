"""The gate of a bundle: what it lets in, and that every way to serve loads it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from optimize.deploy import key_gate
from optimize.deploy.deployment import gate_source
from optimize.deploy.key_gate import KEY, KeyGate
from tests.optimize.deploy.readers import called, compose_service, fake_program, kubernetes_call, kubernetes_container
from tests.optimize.deploy.test_execution import bundle_of, tuned

Message = MutableMapping[str, Any]
RIGHT = b"Bearer secret"


def passed(path: str, authorization: bytes | None = None, **scope: Any) -> tuple[bool, list[Message]]:
    """Whether a request reaches the application behind the gate, and what the gate answers itself."""
    reached: list[Message] = []
    sent: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if authorization is None else [(b"authorization", authorization)]
    whole = {"type": "http", "method": "POST", "path": path, "headers": headers, **scope}
    asyncio.run(KeyGate(application)(whole, lambda: None, send))  # type: ignore[arg-type,return-value]
    return bool(reached), sent


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions", "/invocations", "/scale_elastic_ep", "/tokenize", "/version", "/docs", "/", "", "/health/",
        "/Health", "//health", "/metrics/../invocations", "/health;/invocations", "/v1/health",
    ],
)  # fmt: skip
def test_every_path_takes_the_key(path: str) -> None:
    reached, sent = passed(path)
    assert not reached and [m.get("status") for m in sent] == [401, None]
    for wrong in (b"", b"secret", b"Bearer", b"Bearer ", b"Bearer secre", b"Bearer secret ", b"Basic secret", b"\xff"):
        assert not passed(path, wrong)[0], wrong
    assert passed(path, RIGHT) == passed(path, b"bearer secret") == (True, [])


def test_probes_prometheus_and_a_browsers_question_need_none() -> None:
    assert passed("/health")[0] and passed("/metrics")[0] and passed("/v1/models", method="OPTIONS")[0]
    assert passed("/api/health", root_path="/api")[0] and not passed("/health", root_path="/other", type="websocket")[0]


def test_a_connection_that_is_no_request_takes_the_key_too() -> None:
    assert passed("/v1/realtime", type="websocket") == (False, [{"type": "websocket.close", "code": 1008}])
    assert passed("/v1/realtime", RIGHT, type="websocket")[0] and passed("", type="lifespan")[0]


def test_no_server_starts_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "")
    with pytest.raises(RuntimeError, match="does not start without a key"):
        passed("/health")


def test_every_way_to_serve_finds_the_gate(tmp_path: Path) -> None:
    fake_program(tmp_path / "bin", "vllm")
    folder = tmp_path / "bundle"
    bundle_of(tuned("org/m", {}, {"PYTHONPATH": "/more"}), folder)
    assert (folder / "key_gate.py").read_text() == gate_source() == Path(key_gate.__file__).read_text()
    call = called(["bash", str(folder / "serve.sh")], tmp_path / "bin", tmp_path)
    assert call.environment["PYTHONPATH"].split(os.pathsep) == [str(folder), "/more"]
    service = compose_service((folder / "compose.yaml").read_text())
    assert service["environment"]["PYTHONPATH"] == "/gate:/more"
    text = (folder / "kubernetes.yaml").read_text()
    assert kubernetes_call(text).environment["PYTHONPATH"] == "/gate:/more"
    assert {"name": "gate", "mountPath": "/gate", "readOnly": True} in kubernetes_container(text)["volumeMounts"]
    deployment, _, gate = yaml.safe_load_all(text)
    assert gate["data"] == {"key_gate.py": gate_source()}
    volume = {"name": "gate", "configMap": {"name": gate["metadata"]["name"]}}
    assert volume in deployment["spec"]["template"]["spec"]["volumes"]
