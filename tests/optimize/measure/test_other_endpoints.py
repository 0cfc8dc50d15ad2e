"""`engine=remote` before a gateway that has little in common with vLLM, as a user would measure it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Run

KEY, TEAM = "gateway-key-Zq44", "team-secret-Zq45"
_THOUGHT = {"choices": [{"index": 0, "delta": {"reasoning_content": "Let me see."}}], "error": None}
_ANSWER = {"choices": [{"index": 0, "delta": {"content": "der Hund"}, "finish_reason": "stop"}], "error": None}


@contextmanager
def gateway(throttles_every: int) -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for) of a server below a path: a dialect of its own, no list of models, no counts."""
    paths: list[str] = []
    numbers = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._whole(404, b"<html>nothing here</html>")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            if (self.headers["api-key"], self.headers["X-Team-Token"]) != (KEY, TEAM):
                self._whole(401, b"who are you?")
            elif next(numbers) % throttles_every == 0:
                self._whole(429, b"slow down")
            else:
                self._stream()

        def _whole(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Retry-After", "0.01")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            for document in (_THOUGHT, _ANSWER):
                self.wfile.write(f": thinking\r\n\r\ndata:{json.dumps(document)}\r\n\r\n".encode())
                self.wfile.flush()
                time.sleep(0.01)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/team/llm/v1", paths
        server.shutdown()


@pytest.fixture
def words(simulated: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The overrides of a quick measurement of an endpoint of somebody else."""
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    monkeypatch.setenv("TEAM_TOKEN", TEAM)
    others = [word for word in simulated if not word.startswith(("engine", "search_space"))]
    return [
        *others, "engine=remote", "engine.model=mine", "engine.api_key_env=GATEWAY_KEY",
        "engine.key_header_name=api-key", "space=request", "objectives=[qps,p99_latency_s,bleu]",
        "repeats=1", "load.window_min_s=0.5",
    ]  # fmt: skip


HEADER = "engine.headers={X-Team-Token: '${oc.env:TEAM_TOKEN}'}"


def test_a_gateway_is_measured_for_what_it_is(optimize: Run, words: list[str], tmp_path: Path) -> None:
    with gateway(throttles_every=5) as (address, paths):
        done = optimize([*words, f"engine.base_url={address}/", HEADER], verb="optimize.measure")
    assert done.returncode == 0, done.stderr
    assert set(paths) - {"/team/llm/v1/chat/completions"} == {"/team/llm/v1/completions"}
    assert "ttft_answer_s" in done.stdout and "ttft_p50_s" in done.stdout
    assert "output_tokens_per_s" not in done.stdout and "tpot_s" not in done.stdout
    assert "the endpoint throttled" in done.stdout
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert not any(secret in done.stdout or secret.encode() in written for secret in (KEY, TEAM))


def test_a_gateway_whose_wait_is_honoured_loses_no_request(optimize: Run, words: list[str]) -> None:
    with gateway(throttles_every=5) as (address, _):
        patient = [*words, f"engine.base_url={address}", HEADER, "load.honour_retry_after=true"]
        done = optimize(patient, verb="optimize.measure")
    assert done.returncode == 0, done.stderr
    assert "the endpoint throttled" not in done.stdout


def test_a_header_that_is_missing_ends_the_run_in_one_line(optimize: Run, words: list[str]) -> None:
    with gateway(throttles_every=5) as (address, _):
        done = optimize([*words, f"engine.base_url={address}"], verb="optimize.measure")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "refuses the key in $GATEWAY_KEY (HTTP 401)" in done.stderr
