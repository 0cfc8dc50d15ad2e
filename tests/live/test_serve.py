"""A real vLLM engine under `python -m optimize.serve`: killed, answered again, drained, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from optimize.engine.process import free_port

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_engine_is_answered_for_again_and_sigterm_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable, "-m", "optimize.serve", "+study=chat", "+at.batch_size=16", f"output_dir={tmp_path}",
        f"cache_dir={ROOT}/.cache", f"serve.port={port}", "++engine.flags.enforce_eager=true",
    ]  # fmt: skip
    server = subprocess.Popen(command, cwd=ROOT)
    url, body = f"http://127.0.0.1:{port}", {"model": "model", "prompt": "the old dog sees", "max_tokens": 8}
    try:
        wait_until_up(url, server)
        undisturbed = httpx.post(f"{url}/v1/completions", json={**body, "temperature": 0}, timeout=120).json()
        below = psutil.Process(server.pid).children(recursive=True)
        victim = max((p for p in below if p.ppid() != server.pid), key=lambda p: p.memory_info().rss)
        os.kill(victim.pid, signal.SIGKILL)
        again = httpx.post(f"{url}/v1/completions", json={**body, "temperature": 0}, timeout=120)
        assert again.status_code == 200
        assert again.json()["choices"][0]["text"] == undisturbed["choices"][0]["text"]
        below += psutil.Process(server.pid).children(recursive=True)
        recorded = (tmp_path / "studies/serve-chat/restarts.jsonl").read_text(encoding="utf-8")
        restarts = [json.loads(line) for line in recorded.splitlines()]
        assert [r["how"] for r in restarts] in (["warm"], ["cold"])
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert not [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, "it ended by itself"
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come up")
