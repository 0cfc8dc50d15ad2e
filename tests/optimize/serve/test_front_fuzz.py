"""Whatever bytes come in: the front fails at none of them, and only what it allows reaches the engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.config.serve import Serve
from optimize.serve.proxy import FORWARDED
from tests.fuzz import tried
from tests.optimize.serve.fronts import ENGINE_KEY, Arrival, Fronted, fronted, status

BEAMS_MAX, ANSWERS_MAX = 4, 12
SETTINGS = Serve(
    beams_max=BEAMS_MAX, beams_together=BEAMS_MAX, beams_dynamic=False, answers_max=ANSWERS_MAX, client_timeout_s=0.05,
    body_max_mib=1,
)  # fmt: skip
STATUSES = {0, 200, 400, 401, 403, 404, 405, 408, 413, 415, 417, 503}
HEADERS = {
    "host", "accept", "x-request-id", "traceparent", "tracestate", "content-type", "accept-encoding", "authorization",
    "user-agent", "content-length",
}  # fmt: skip

PIECES = st.sampled_from(
    [
        "/", "//", "/v1", "v1", "..", ".", "%2e", "%2E%2e", "%2f", "%5c", "\\", ";", "?", "#", "%00", "%", "%25", ":",
        "@", "*", "http://", "127.0.0.1", "evil.example", "/models", "/completions", "/chat", "/collective_rpc",
        "/sleep", "/health", "/metrics", "/server_info", " ",
        "\t", "é", "%c3%a9", "%ff", "[::1]", "/responses", "/messages", "~",
    ]
)  # fmt: skip
TARGETS = st.sampled_from([*FORWARDED, "/health", "/metrics"]) | st.lists(PIECES, max_size=8).map("".join)
METHODS = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "CONNECT", "TRACE", "get", "", "\x00"])
HEADER_LINES = st.sampled_from(
    [
        b"Host: 127.0.0.1", b"Host: evil.example", b"Host: 127.0.0.1:80:80", b"Host: \xff", b"Expect: 100-continue",
        b"Expect: more", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 2",
        b"Content-Length: -1", b"Content-Length: 99", b"Content-Type: application/json", b"Content-Type: text/plain",
        b"Content-Type: application/json; charset=utf-16", b"Content-Type: \xff/;", b"Content-Encoding: gzip",
        b"Content-Encoding: deflate", b"Connection: close, x-request-id", b"Upgrade: websocket", b"X-Request-Id: \x80",
        b"Authorization: Bearer \xff\xfe", b"X-Request-Id: a\tb", b"Sec-WebSocket-Key: x", b"Cookie: a=\"\\",
        b": empty", b"No colon", b" folded", b"Accept: \xc3\xa9", b"TE: trailers", b"Content-Encoding: br", b"Host:",
    ]
)  # fmt: skip
NUMBERS = (
    st.integers(-2, 20)
    | st.floats()
    | st.sampled_from([10**30, "5", "5.0", " 6 ", "١٢", "1e1", True, None, [5], "0x9"])
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["n", "use_beam_search", "prompt", "\\u006e", "use_beam\\u005fsearch", "N", "n ", "prompt_embeds"]
)
FLAGS = st.sampled_from([True, False, "true", "yes", "on", "1", 1, 1.0, 2, None, "TRUE", "y"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-7"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON objects whose members may be repeated and escaped, in an encoding of any kind."""
    members = [("prompt", "a"), ("use_beam_search", draw(FLAGS)), ("n", draw(NUMBERS))]
    members += draw(st.lists(st.tuples(KEYS, NUMBERS | FLAGS | JSON), max_size=4))
    order = draw(st.permutations(members))
    text = "{" + ", ".join(f'"{name}": {json.dumps(value)}' for name, value in order) + "}"
    return text.encode(draw(ENCODINGS), "surrogatepass")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests of HTTP that are nearly right."""
    line = f"{draw(METHODS)} {draw(TARGETS)} {draw(st.sampled_from(['HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'x', '']))}"
    body = draw(bodies() | st.binary(max_size=64))
    usual = [b"Host: localhost", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    lines = draw(st.lists(HEADER_LINES, max_size=4)) + draw(st.lists(st.sampled_from(usual), max_size=3, unique=True))
    return b"\r\n".join([line.encode(), *lines]) + draw(st.sampled_from([b"\r\n\r\n", b"\r\n", b"\n\n", b""])) + body


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("fuzz"), SETTINGS) as made:
        yield made


def check(front: Fronted, caplog: pytest.LogCaptureFixture, code: int) -> None:
    """What holds after every exchange."""
    arrivals, front.engine.arrivals = front.engine.arrivals, []
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    assert code in STATUSES and warnings == []
    for arrival in arrivals:
        assert {**FORWARDED, "/metrics": "GET"}.get(
            arrival.target
        ) == arrival.method  # the front's own /metrics has both
        assert {name.lower() for name in arrival.headers} <= HEADERS
        assert arrival.headers["Authorization"] == f"Bearer {ENGINE_KEY}"
        if arrival.method != "GET":
            beams, answers = beams_and_answers(arrival)
            assert beams <= BEAMS_MAX and answers <= ANSWERS_MAX


def beams_and_answers(arrival: Arrival) -> tuple[int, int]:
    """Beams that the engine would search with, and answers that it would give; its body must leave no doubt about them.

    Answers are those of beam search, too.
    """
    assert arrival.body.isascii()
    repeated = [name for name, _ in json.loads(arrival.body, object_pairs_hook=list)]
    assert len(repeated) == len(set(repeated))
    prompt = arrival.fields.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and any(isinstance(item, str | list) for item in prompt) else 1
    n, searches = arrival.fields.get("n", 1), arrival.fields.get("use_beam_search", False)
    assert type(n) in (int, type(None)) and type(searches) is bool
    answers = max(1, n or 1) * prompts
    return answers if searches and n is not None and n > 1 else 1, answers


@tried(150)
@given(request=requests() | st.binary(max_size=200) | st.tuples(requests(), requests()).map(b"".join))
def test_no_bytes_bring_the_front_down_or_reach_the_engine_unchecked(
    front: Fronted, caplog: pytest.LogCaptureFixture, request: bytes
) -> None:
    check(front, caplog, status(front.exchange(request)))


@tried(200)
@given(
    line=st.tuples(st.just("POST"), TARGETS.map(lambda target: target.replace(" ", ""))).map(" ".join), body=bodies(),
    headers=st.lists(HEADER_LINES.map(lambda line: line.decode("utf-8", "surrogateescape")), max_size=1),
)  # fmt: skip
def test_no_path_and_no_body_reach_the_engine_with_more_beams_than_allowed(
    front: Fronted, caplog: pytest.LogCaptureFixture, line: str, body: bytes, headers: list[str]
) -> None:
    check(front, caplog, front.ask(line, body, *headers)[0])
