"""What the front lets through, over raw sockets."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from optimize.config.serve import Serve
from optimize.serve.proxy import FORWARDED
from tests.optimize.serve.fronts import ENGINE_KEY, Fronted, fronted, status

BODY = json.dumps({"model": "model", "prompt": "a"}).encode()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """A front without a key, which admits four beams."""
    with fronted(tmp_path_factory.mktemp("front"), Serve(beams_max=4, beams_dynamic=False)) as made:
        yield made


@pytest.fixture(autouse=True)
def _forget(front: Fronted) -> None:
    front.engine.arrivals.clear()
    front.engine.headers.clear()


@pytest.mark.parametrize("path", FORWARDED)
def test_each_route_reaches_the_engine_as_the_front_writes_it(front: Fronted, path: str) -> None:
    assert front.ask(f"{FORWARDED[path]} {path}?x=/../y", BODY)[0] == 200
    (arrival,) = front.engine.arrivals
    assert (arrival.method, arrival.target) == (FORWARDED[path], path)
    assert arrival.headers["Authorization"] == f"Bearer {ENGINE_KEY}"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../collective_rpc", "/v1/%2e%2e/collective_rpc", "/v1/%2E%2E%2Fcollective_rpc", "/v1/..%2fcollective_rpc",
        "/v1/..%5ccollective_rpc", "/v1/x/../../collective_rpc", "/v1/;/../../collective_rpc", "//v1/../collective_rpc",
        "/v1//../../collective_rpc", "/v1/%252e%252e/collective_rpc", "/v1/.%00./collective_rpc", "/collective_rpc",
        "/v1/load_lora_adapter", "/v1/completions/render", "/v1/completions/", "/v1/completions/../../sleep",
        "http://127.0.0.1/v1/../collective_rpc", "http://evil.example/collective_rpc", "/v1/../sleep?level=2",
        "/v1/%2e%2e/save_sharded_state", "/v1/../server_info#/v1/models", "*", "/v1/\\..\\server_info", "/v1/..;/sleep",
        "?/v1/models", "#/v1/models", "v1/models", "//evil.example/v1/models/..",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_other_target_reaches_the_engine(
    front: Fronted, method: str, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, _ = front.ask(f"{method} {target}", b'{"method": "memory_report"}')
    assert code in (400, 404, 405)
    assert front.engine.arrivals == []
    assert caplog.records == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "post"])
def test_no_other_method_reaches_the_engine(front: Fronted, method: str) -> None:
    assert front.ask(f"{method} /v1/completions", BODY)[0] in (400, 404, 405)
    assert method == "GET" or front.ask(f"{method} /v1/models")[0] in (400, 404, 405)
    assert front.engine.arrivals == []


@pytest.mark.parametrize(
    "target", ["/v1/./completions", "/v1/%63ompletions", "/v1/x/../completions", "//v1/completions"]
)
def test_the_limit_of_beams_holds_for_every_spelling_of_a_path(front: Fronted, target: str) -> None:
    code, _ = front.ask(f"POST {target}", b'{"prompt": "a", "use_beam_search": true, "n": 5}')
    assert code in (400, 404) and front.engine.arrivals == []


def test_only_headers_that_an_engine_needs_are_passed_on(front: Fronted) -> None:
    headers = (
        "X-Request-Id: 7", "traceparent: 00-1-2-01", "Cookie: a=b", "Origin: http://evil.example", "TE: trailers",
        "Proxy-Authorization: Basic x", "Upgrade: h2c", "X-data-parallel-rank: 1", "X-Forwarded-For: 1.2.3.4",
        "Keep-Alive: timeout=9", "tracestate: \udcff", "X-Custom: 1",
    )  # fmt: skip
    assert front.ask("POST /v1/completions", BODY, *headers)[0] == 200
    (arrival,) = front.engine.arrivals
    assert {name.lower() for name in arrival.headers} == {
        "host", "x-request-id", "traceparent", "content-type", "accept-encoding", "authorization", "user-agent",
        "accept", "content-length",
    }  # fmt: skip
    assert arrival.headers["Host"].startswith("127.0.0.1:") and arrival.headers["Content-Type"] == "application/json"


def test_headers_of_the_engines_connection_stay_there(front: Fronted) -> None:
    front.engine.headers |= {
        "Connection": "X-Hop, keep-alive",
        "X-Hop": "1",
        "Proxy-Authenticate": "Basic",
        "X-End": "1",
    }
    answer = httpx.post(f"{front.front.endpoint.base_url}/v1/completions", json={"prompt": "a"})
    assert answer.headers["X-End"] == "1"
    assert not {"x-hop", "proxy-authenticate"} & set(answer.headers)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "a", "use_beam_search": true, "n": 5}',
        b'{"prompt": "a", "use_beam_search": true, "n": "10"}',
        b'{"prompt": "a", "use_beam_search": true, "n": 16.0}',
        b'{"prompt": "a", "use_beam_search": "yes", "n": " 5 "}',
        b'{"prompt": "a", "use_beam_search": 1, "n": 5}',
        b'{"prompt": "a", "use_beam_search": true, "n": 1, "n": 5}',
        b'{"prompt": "a", "use_beam_search": false, "n": 5, "use_beam_search": true}',
        b'{"prompt": "a", "use_beam\\u005fsearch": true, "\\u006e": 5}',
        '{"prompt": "a", "use_beam_search": true, "n": 5}'.encode("utf-16"),
        '{"prompt": "a", "use_beam_search": true, "n": 5}'.encode("utf-16-le"),
        '{"prompt": "a", "use_beam_search": true, "n": 5}'.encode("utf-16-be"),
        '{"prompt": "a", "use_beam_search": true, "n": 5}'.encode("utf-32"),
        '{"prompt": "a", "use_beam_search": true, "n": 5}'.encode("utf-8-sig"),
        b'{"prompt": ["a", "b", "c"], "use_beam_search": true, "n": 600}',
    ],
)
def test_beams_beyond_the_limit_are_refused_however_they_are_written(front: Fronted, body: bytes) -> None:
    for headers in ((), ("Content-Type: application/json; charset=utf-7",)):
        code, answer = front.ask("POST /v1/completions", body, *headers)
        assert code == 400 and json.loads(answer)["error"]["param"] == "n"
    assert front.engine.arrivals == []


@pytest.mark.parametrize(
    "decoding", [{"n": 50}, {"use_beam_search": True}, {"use_beam_search": True, "n": -2}, {"n": None}]
)
def test_what_is_no_beam_search_has_no_limit_of_beams(front: Fronted, decoding: dict[str, object]) -> None:
    assert front.ask("POST /v1/completions", json.dumps({"prompt": ["a", "b"], **decoding}).encode())[0] == 200
    (arrival,) = front.engine.arrivals
    assert arrival.fields == {"prompt": ["a", "b"], **decoding}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"prompt": "a", "n": 100000}', "n"),
        (b'{"prompt": "a", "n": "257"}', "n"),
        (b'{"messages": [], "n": 257.0}', "n"),
        (b'{"prompt": ["a", "b", "c"], "n": 100}', "n"),
        (json.dumps({"prompt": ["a"] * 257}).encode(), "prompt"),
        (json.dumps({"prompt": [[1]] * 257}).encode(), "prompt"),
        (json.dumps({"prompt": ["a"] * 200, "prompt_embeds": ["b"] * 100}).encode(), "prompt"),
        (json.dumps({"prompt": ["a"] * 257, "use_beam_search": True, "n": 1}).encode(), "prompt"),
    ],
)
def test_answers_beyond_the_limit_are_refused_however_they_are_asked_for(
    front: Fronted, body: bytes, param: str
) -> None:
    path = "/v1/chat/completions" if b"messages" in body else "/v1/completions"
    code, answer = front.ask(f"POST {path}", body)
    error = json.loads(answer)["error"]
    assert code == 400 and error["param"] == param
    assert "exceeds the 256 answers allowed in a request (serve.answers_max): request fewer" in error["message"]
    assert front.engine.arrivals == []


def test_as_many_answers_as_are_allowed_reach_the_engine(front: Fronted) -> None:
    for fields in ({"prompt": "a", "n": 256}, {"prompt": ["a"] * 128, "n": 2}, {"prompt": list(range(5000))}):
        assert front.ask("POST /v1/completions", json.dumps(fields).encode())[0] == 200
    assert len(front.engine.arrivals) == 3


def test_a_compressed_body_is_refused_as_vllm_refuses_it(front: Fronted) -> None:
    assert front.ask("POST /v1/completions", gzip.compress(BODY), "Content-Encoding: gzip")[0] == 400
    assert front.ask("POST /v1/completions", BODY, "Content-Encoding: gzip")[0] == 200
    (arrival,) = front.engine.arrivals
    assert arrival.body == BODY and "Content-Encoding" not in arrival.headers


def test_the_engine_gets_the_fields_as_the_front_read_them(front: Fronted) -> None:
    sent = (
        '{"prompt": "ä\\ud800", "use_beam_search": "on", "n": "3", "n": 4.0, "top_p": 1e-7, "seed": 12345678901234567}'
    )
    assert front.ask("POST /v1/completions", sent.encode("utf-16"))[0] == 200
    (arrival,) = front.engine.arrivals
    assert arrival.fields == {
        "prompt": "ä\ud800", "use_beam_search": True, "n": 4, "top_p": 1e-7, "seed": 12345678901234567,
    }  # fmt: skip
    assert arrival.body.isascii()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"), (b"{", "no JSON"), (b"[]", "JSON object"), (b"1", "JSON object"), (b"\xff\xfe{", "no JSON"),
        (b'{"n": "many"}', "n: "), (b'{"n": 1.5}', "n: "), (b'{"n": NaN}', "n: "), (b'{"use_beam_search": 2}', "use_"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "no JSON"),
    ],
)  # fmt: skip
def test_a_body_that_the_engine_could_not_use_is_refused_with_the_reason(
    front: Fronted, body: bytes, reason: str
) -> None:
    code, answer = front.ask("POST /v1/chat/completions", body)
    assert code == 400 and reason in json.loads(answer)["error"]["message"]
    assert front.engine.arrivals == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
def test_a_body_that_a_web_page_can_send_without_asking_is_refused(front: Fronted, kind: str) -> None:
    assert front.ask("POST /v1/completions", BODY, f"Content-Type: {kind}")[0] == 415
    assert front.engine.arrivals == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /v1/models HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /nothing HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
    ],
)  # fmt: skip
def test_bytes_that_are_no_http_leave_no_traceback(
    tmp_path: Path, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with fronted(tmp_path, Serve(client_timeout_s=0.05)) as front:
        assert status(front.exchange(request_bytes)) in (400, 404)
    assert caplog.records == []


def test_a_fault_of_the_front_itself_is_logged_and_a_client_that_has_left_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("optimize.serve.front")
    logger.error("Error handling request", exc_info=ConnectionResetError("Cannot write to closing transport"))
    assert caplog.records == []
    logger.error("Error handling request", exc_info=ValueError())
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "headers",
    [[f"X-{number}: 1" for number in range(100)], ["X-Long: " + "a" * 5000], ["X" * 5000 + ": 1"]],
    ids=["many", "long value", "long name"],
)
def test_the_head_of_a_request_has_a_largest_size(front: Fronted, headers: list[str]) -> None:
    assert front.ask("GET /v1/models", b"", *headers)[0] == 400
    assert front.ask("GET /v1/models?" + "a" * 5000)[0] == 400
    assert front.engine.arrivals == []


def test_without_a_key_the_front_answers_to_names_of_loopback_only(front: Fronted) -> None:
    assert front.ask("GET /v1/models", b"", "Host: localhost:8000")[0] == 200
    front.engine.arrivals.clear()
    for host in ("rebound.example", "rebound.example:8000", ""):
        for path in ("/v1/models", "/metrics"):
            assert front.ask(f"GET {path}", b"", f"Host: {host}")[0] == 403, path
    assert front.engine.arrivals == []


def test_a_key_is_compared_as_bytes_and_admits_from_any_name(tmp_path: Path) -> None:
    with fronted(tmp_path, key="sesam") as front:
        assert front.ask("GET /v1/models", b"", "Host: any.example", "Authorization: Bearer sesam")[0] == 200
        for header in (
            "Bearer sesa",
            "Bearer \udcff",
            "Bearer sesam\udcff",
            "Bearer ключ",
            "sesam",
            "bearer sesam",
            "",
        ):
            assert front.ask("GET /v1/models", b"", f"Authorization: {header}")[0] == 401
        assert front.ask("GET /v1/models")[0] == 401
        assert len(front.engine.arrivals) == 1


def test_the_front_serves_ipv6_and_its_address_has_brackets(tmp_path: Path) -> None:
    with fronted(tmp_path, host="::1") as front:
        url = front.front.endpoint.base_url
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/health").json()["status"] == "up"
        assert httpx.post(f"{url}/v1/completions", json={"prompt": "a"}).status_code == 200
