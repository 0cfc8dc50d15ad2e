"""A real vLLM engine under `python -m optimize.serve`: killed, restarted, drained, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from optimize.engine.process import free_port
from optimize.serve.restart_log import RestartLog
from tests.live.fixtures import CACHE, Command

pytestmark = pytest.mark.live

DEVELOPMENT = ["/server_info", "/v1/../server_info", "/v1/%2e%2e/server_info", "/v1/x/../../server_info"]


def test_requests_survive_a_killed_engine_and_sigterm_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    arguments = [
        "+study=chat", "+at.batch_size=16", f"output_dir={tmp_path}", CACHE, f"serve.port={port}",
        "++engine.flags.enforce_eager=true",
    ]  # fmt: skip
    server = Command.start(tmp_path, "optimize.serve", arguments)
    url, body = f"http://127.0.0.1:{port}", {"model": "model", "prompt": "the old dog sees", "max_tokens": 8}
    try:
        wait_until_up(url, server)
        assert [raw_status(port, target) for target in DEVELOPMENT] == [404] * len(DEVELOPMENT)
        routes = (tmp_path / "studies/serve-chat/engine-0001.log").read_text(encoding="utf-8")
        assert "Route: /v1/completions" in routes and "/collective_rpc" not in routes and "/sleep" not in routes
        undisturbed = httpx.post(f"{url}/v1/completions", json={**body, "temperature": 0}, timeout=120).json()
        (serve,) = psutil.Process(server.process.pid).children()
        engine = [p for p in serve.children(recursive=True) if p.ppid() != serve.pid]
        os.kill(max(engine, key=lambda p: p.memory_info().rss).pid, signal.SIGKILL)
        disturbed = httpx.post(f"{url}/v1/completions", json={**body, "temperature": 0}, timeout=120)
        assert disturbed.status_code == 200
        assert disturbed.json()["choices"][0]["text"] == undisturbed["choices"][0]["text"]
        log = RestartLog(tmp_path / "studies/serve-chat/restarts.jsonl")
        assert [restart.how for restart in log.read()] in (["warm"], ["cold"])
    finally:
        server.process.terminate()
        done = server.wait()
    assert done.returncode == 0, done.stderr
    assert server.left_behind() == []


def raw_status(port: int, target: str) -> int:
    """Status of a request whose path is sent as it stands."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return int(sock.makefile("rb").readline().split()[1])


def wait_until_up(url: str, server: Command) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert server.process.poll() is None, "the server ended by itself"
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not come up")
