"""Rows too long for an endpoint that somebody else runs: found before a study, and no fault of any configuration."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from optimize.config.measuring import WorkloadSource
from optimize.engine.base import Endpoint
from optimize.errors import ConfigError
from optimize.load.refused_rows import without_refused
from optimize.workload.workload import Prompt, Workload

SOURCE = WorkloadSource("mine", "any")


class _Server(BaseHTTPRequestHandler):
    """Takes 400 characters of a prompt, or 300 tokens of an answer, as vLLM does with its context."""

    asked: list[str] = []

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = str(body.get("prompt") or body["messages"])
        self.asked.append(text)
        refused = len(text) > 400 or body["max_tokens"] > 300 or "never" in text
        refusal = b'{"error": {"message": "This model\'s maximum context length is 256 tokens."}}'
        payload = refusal if refused else b"data: {}\n\n"
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    _Server.asked.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Endpoint(f"http://127.0.0.1:{server.server_port}", None, "model")
    server.shutdown()
    server.server_close()
    thread.join()


def _workload(*prompts: Prompt, max_tokens: int = 8) -> Workload:
    return Workload("mine", prompts, [], max_tokens)


SHORT: list[Prompt] = [f"the dog {row}" for row in range(99)]
LONG: Prompt = "the dog " * 100


def test_one_row_too_long_is_left_out_and_named_with_the_endpoints_words(endpoint: Endpoint) -> None:
    workload, left = without_refused(_workload(LONG, *SHORT), endpoint, SOURCE)
    assert list(workload.prompts) == SHORT and left == list(range(1, 100))
    assert "refuses 1 of 100 rows for their length, which are left out: row 0 ({" in workload.notes[0]
    assert "maximum context length is 256 tokens" in workload.notes[0]
    assert len(_Server.asked) <= 4


def test_chats_are_asked_as_chats(endpoint: Endpoint) -> None:
    chat: Prompt = [{"role": "user", "content": LONG}]
    assert without_refused(_workload(*SHORT, chat), endpoint, SOURCE)[1] == list(range(99))


def test_a_workload_that_fits_costs_two_requests(endpoint: Endpoint) -> None:
    workload = _workload(*SHORT)
    assert without_refused(workload, endpoint, SOURCE) == (workload, None)
    assert len(_Server.asked) == 2


def test_many_rows_too_long_are_refused_with_the_remedy(endpoint: Endpoint) -> None:
    many = _workload(*[LONG] * 10, *SHORT)
    with pytest.raises(ConfigError, match=r"refuses more than 5% of its 109 rows .*256 tokens.*too_long=leave_out"):
        without_refused(many, endpoint, SOURCE)
    asked_for = WorkloadSource("mine", "any", too_long="leave_out")
    assert list(without_refused(many, endpoint, asked_for)[0].prompts) == SHORT


def test_what_is_refused_whatever_its_length_is_left_to_the_load(endpoint: Endpoint) -> None:
    for workload in (_workload(*SHORT, max_tokens=400), _workload("never", "never again")):
        assert without_refused(workload, endpoint, SOURCE) == (workload, None)


def test_an_endpoint_that_does_not_answer_is_left_to_the_load() -> None:
    workload = _workload(*SHORT[:3])
    assert without_refused(workload, Endpoint("http://127.0.0.1:9", None, "model"), SOURCE) == (workload, None)
