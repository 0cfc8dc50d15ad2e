"""What an endpoint of somebody else is asked before anything is measured, and what is said where it does not answer."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from optimize.engine.base import EngineConfig, header_of
from optimize.engine.remote import RemoteLauncher
from optimize.errors import ConfigError, TransientFault
from tests.optimize.authority import own_authority

LISTED = (200, json.dumps({"object": "list", "data": [{"id": "m"}, {"id": "n"}]}))
PAGE = (200, "<html>Welcome</html>")
Answers = Callable[[str, str, dict[str, str]], tuple[int, str]]


@contextmanager
def endpoint(answer: Answers, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """(address, requests) of a server that answers by method, path and headers."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append(f"{self.command} {self.path}")
            status, body = answer(self.command, self.path, dict(self.headers.items()))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = handle_one

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", requests
        server.shutdown()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none-of-yours")


def refusal(answer: Answers, **settings: Any) -> str:
    """The line that a preflight ends in."""
    with endpoint(answer) as (address, _), pytest.raises(ConfigError) as caught:
        RemoteLauncher(address, **settings).preflight([])
    assert "\n" not in str(caught.value) and "none-of-yours" not in str(caught.value)
    return str(caught.value)


def served(answer: Answers, suffix: str = "", **settings: Any) -> tuple[str, list[str]]:
    """(model, requests) of a launch that works."""
    with endpoint(answer) as (address, requests):
        engine = RemoteLauncher(f"{address}{suffix}", **settings).launch(EngineConfig("m", ""), Path("log"))
        return engine.endpoint.model, requests


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/team/llm", "/team/llm/v1?tenant=a"])
def test_the_first_model_is_taken_from_the_list_wherever_the_api_is(suffix: str) -> None:
    model, requests = served(lambda *_: LISTED, suffix)
    prefix, query = ("/team/llm" if "team" in suffix else ""), ("?tenant=a" if "tenant" in suffix else "")
    assert (model, requests) == ("m", [f"GET {prefix}/v1/models{query}"])


@pytest.mark.parametrize(
    ("key_header_name", "expected"),
    [(None, ("Authorization", "Bearer sk-none-of-yours")), ("api-key", ("api-key", "sk-none-of-yours"))],
)
def test_the_key_and_further_headers_are_sent(key_header_name: str | None, expected: tuple[str, str]) -> None:
    def answer(_: str, __: str, headers: dict[str, str]) -> tuple[int, str]:
        return LISTED if headers.get(expected[0]) == expected[1] and headers.get("X-Team") == "7" else (401, "")

    assert served(answer, key_header_name=key_header_name, headers={"X-Team": 7})[0] == "m"


@pytest.mark.parametrize(
    "listing", [(404, "no such path"), (200, '{"data": []}'), PAGE, (403, "scope"), LISTED, (500, "")]
)
def test_a_model_that_is_not_listed_is_asked_for_one_token(listing: tuple[int, str]) -> None:
    model, requests = served(lambda method, *_: listing if method == "GET" else (200, "{}"), model="mine")
    assert (model, requests) == ("mine", ["GET /v1/models", "POST /v1/chat/completions"])


def test_a_server_of_plain_completions_is_asked_for_one_as_well() -> None:
    def answer(_: str, path: str, __: dict[str, str]) -> tuple[int, str]:
        return (200, "{}") if path == "/v1/completions" else (404, "")

    assert served(answer, model="mine")[0] == "mine"


@pytest.mark.parametrize("status", [200, 400, 429, 503])
def test_refusals_that_are_not_of_the_model_are_left_to_the_load(status: int) -> None:
    assert served(lambda method, *_: LISTED if method == "GET" else (status, ""), model="mine")[0] == "mine"


def test_without_a_list_the_model_has_to_be_named() -> None:
    assert "name the model, engine.model=NAME" in refusal(lambda *_: (404, "no such path"))
    assert "HTTP 200: <html>Welcome</html>" in refusal(lambda *_: PAGE)


def test_a_model_that_is_not_served_is_named_with_the_nearest() -> None:
    line = refusal(lambda method, *_: LISTED if method == "GET" else (404, "no model"), model="mm")
    assert "engine.model='mm' is not served" in line and "did you mean 'm'?" in line


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_one_line_with_the_remedy(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"refuses the key in $OPENAI_API_KEY (HTTP {status})" in refusal(lambda *_: (status, "sk-none-of-yours"))
    assert "engine.key_header_name=api-key" in refusal(lambda *_: (status, ""), model="m")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "asks for a key" in refusal(lambda *_: (status, ""))


def test_a_certificate_that_is_not_trusted_names_the_setting(tmp_path: Path) -> None:
    ca_file, tls = own_authority(tmp_path)
    with endpoint(lambda *_: LISTED, tls) as (address, _):
        RemoteLauncher(address, ca_file=str(ca_file)).preflight([])
        with pytest.raises(ConfigError, match=r"engine\.ca_file=FILE\.pem"):
            RemoteLauncher(address).preflight([])


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"engine\.ca_file=\S*ca\.pem holds no certificates"):
        RemoteLauncher("https://127.0.0.1:9", ca_file=str(path)).preflight([])


@pytest.mark.parametrize(
    ("name", "value"), [("X Team", "a"), ("X-Team", "a\nb"), ("X-Täm", "a"), ("X-Team", "ü"), ("", "a")]
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.headers\."):
        header_of(name, value)


def test_an_endpoint_that_has_gone_is_no_failure_of_the_configuration() -> None:
    with endpoint(lambda *_: LISTED) as (address, _):
        engine = RemoteLauncher(address).launch(EngineConfig("m", ""), Path("log"))
        engine.check()
    engine._checked_at = -60.0
    with pytest.raises(TransientFault, match="does not answer any more"):
        engine.check()
