"""The gate around vLLM's application, and what a launcher does so that it stands there."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.gate import KEY, Gate, admits, names_loopback
from optimize.engine.process import ColdTree, free_port
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine, listener_uid
from optimize.errors import EngineFailure

RIGHT = [(b"host", b"127.0.0.1:8001"), (b"authorization", b"Bearer secret")]
Message = MutableMapping[str, Any]


@pytest.mark.parametrize(
    "host", [b"127.0.0.1", b"127.0.0.1:1", b"localhost:8000", b"[::1]", b"[::1]:8", b"127.0.0.5:8"]
)
def test_names_of_loopback_are_recognised(host: bytes) -> None:
    assert names_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        b"", b":", b":80", b"evil.example", b"evil.example:8000", b"127.0.0.1.evil.example", b"localhost:x", b"::1",
        b"localhost.", b"127.0.0.1@evil.example", b"127.0.0.1:80:80",
        b"0.0.0.0:80", b"\xff:80", b"10.0.0.1:80",
    ],
)  # fmt: skip
def test_other_names_are_not(host: bytes) -> None:
    assert not names_loopback(host)


@pytest.mark.parametrize(
    "headers",
    [
        [], RIGHT[:1], RIGHT[1:], [RIGHT[0], (b"authorization", b"Bearer secre")], [RIGHT[0], (b"authorization", b"")],
        [RIGHT[0], (b"authorization", b"secret")], [(b"host", b"evil.example:8001"), RIGHT[1]],
        [RIGHT[0], (b"authorization", b"Bearer \xff")],
    ],
)  # fmt: skip
def test_a_request_needs_the_key_and_a_name_of_loopback(headers: list[tuple[bytes, bytes]]) -> None:
    assert admits(RIGHT, "secret")
    assert not admits(headers, "secret")


def passed(kind: str, headers: list[tuple[bytes, bytes]]) -> tuple[bool, list[Message]]:
    """Whether a connection reaches the application behind the gate, and what the gate sends itself."""
    reached, sent = [], []

    async def application(scope: Message, receive: object, send: object) -> None:
        reached.append(scope)

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {}

    scope = {"type": kind, "method": "OPTIONS", "path": "/health", "headers": headers}
    asyncio.run(Gate(application)(scope, receive, send))
    return bool(reached), sent


def test_every_method_and_path_and_websockets_take_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    assert passed("http", RIGHT) == passed("websocket", RIGHT) == passed("lifespan", []) == (True, [])
    reached, sent = passed("http", [])
    assert not reached and sent[0]["status"] == 401
    reached, sent = passed("websocket", [])
    assert not reached and sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize("key", ["", None])
def test_an_engine_without_a_key_does_not_start(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.delenv(KEY, raising=False) if key is None else monkeypatch.setenv(KEY, key)
    with pytest.raises(RuntimeError, match="does not start without a key"):
        passed("http", RIGHT)


def test_served_engines_have_no_development_endpoints_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "1")  # a server without the gate
    measuring = VllmLauncher(env={"VLLM_SERVER_DEV_MODE": "1", KEY: "of the configuration"}, niceness=7)
    serving = measuring.for_clients(niceness=0)
    assert measuring._environment("own")["VLLM_SERVER_DEV_MODE"] == "1"
    environment = serving._environment("own")
    assert environment[KEY] == "own" and not {"VLLM_SERVER_DEV_MODE", "VLLM_USE_RUST_FRONTEND"} & set(environment)
    assert (measuring.niceness, serving.niceness) == (7, 0)


def test_what_an_engine_compiles_is_not_keyed_by_its_random_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "of the user")  # vLLM 0.25 hashes it, with all variables of its own, but few
    first, second = (VllmLauncher().for_clients(niceness=0)._environment(key) for key in ("one", "another"))
    assert {name for name in first if first[name] != second[name]} == {KEY} and not KEY.startswith("VLLM_")
    assert "VLLM_API_KEY" not in VllmLauncher()._environment("one").keys() | first.keys()


def test_the_listener_on_a_port_is_known_by_its_user() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert listener_uid(port) is None  # bound, not yet listening
        server.listen()
        assert listener_uid(port) == os.getuid()


def received_by(server: socket.socket) -> Iterator[bytes]:
    """The first byte of each connection that waits to be accepted; empty where it was closed without one."""
    with suppress(BlockingIOError):
        while True:
            connection, _ = server.accept()
            with connection:
                yield connection.recv(1)


def await_in_vain(port: int, log: Path) -> None:
    """Wait for an engine at a port where its process never listens."""
    endpoint = Endpoint(f"http://127.0.0.1:{port}", "secret", "model")
    engine = VllmEngine(EngineConfig("model", "fp16"), ColdTree(["sleep", "60"], {}, log, grace_s=0), endpoint, log)
    try:
        with pytest.raises(EngineFailure, match="did nothing for 0 s while starting processes"):
            engine.wait_ready(stall_s=0.1)
    finally:
        engine.stop()


def test_who_took_an_engines_port_before_it_is_not_sent_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        squatter.settimeout(0)
        monkeypatch.setattr(os, "getuid", lambda: -1)  # as if another user's program listened there
        await_in_vain(squatter.getsockname()[1], tmp_path / "log")
        assert not any(received_by(squatter)), "something was sent"


def test_while_nobody_listens_nobody_looks_up_who_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's table of sockets takes milliseconds to read, which an engine that starts lacks."""
    monkeypatch.setattr("optimize.engine.vllm_engine.listener_uid", lambda _: pytest.fail("looked up"))
    await_in_vain(free_port(), tmp_path / "log")
