"""Clients that send or read slowly, or never end, hold nothing for long and keep nobody else out."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from optimize.config.serve import Serve
from optimize.serve.intake import capacity
from tests.optimize.serve.fronts import Fronted, fronted, received, status

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HASTY = Serve(client_timeout_s=0.3, body_max_mib=1, bodies_max_mib=2, requests_max=8)
UNLIMITED = resource.RLIM_INFINITY
PATIENT = replace(HASTY, client_timeout_s=60)


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Fronted]:
    with fronted(tmp_path, HASTY) as made:
        yield made


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Fronted]:
    with fronted(tmp_path, PATIENT) as made:
        yield made


def is_up(front: Fronted) -> bool:
    return front.ask("GET /health")[0] == 200


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET / HTTP/1.1\r\nX-Half: ", b"CONNECT  \r\n\r\n"])
def test_a_head_that_never_ends_has_a_deadline(hasty: Fronted, sent: bytes) -> None:
    with closing(hasty.connect()) as sock:
        sock.sendall(sent)
        assert received(sock) == b""


def test_a_body_that_never_ends_has_a_deadline(hasty: Fronted) -> None:
    with closing(hasty.connect()) as sock:
        sock.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert status(sock.recv(1 << 16)) == 408
    assert hasty.engine.arrivals == []


def test_a_body_has_a_largest_size_even_where_it_is_unannounced(hasty: Fronted) -> None:
    body = json.dumps({"prompt": "a" * (1 << 20)}).encode()
    assert hasty.ask("POST /v1/completions", body)[0] == 413
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert status(hasty.exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)) == 413
    assert hasty.engine.arrivals == []


def test_the_bodies_of_all_requests_share_a_bounded_memory(patient: Fronted) -> None:
    unfinished = HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 900_000
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(closing(patient.connect())).sendall(unfinished)
        assert wait_for(lambda: patient.front.proxy._intake._held_bytes == 1_800_000)
        refused = stack.enter_context(closing(patient.connect()))
        refused.sendall(unfinished)
        answer = refused.recv(1 << 16)
        assert status(answer) == 503 and b"Retry-After" in answer
        assert is_up(patient)
        assert patient.ask("POST /v1/completions", b'{"prompt": "a"}')[0] == 200
    assert wait_for(lambda: patient.front.proxy._intake._held_bytes == 0)


def test_only_so_many_requests_are_under_way(patient: Fronted) -> None:
    with ExitStack() as stack:
        for _ in range(PATIENT.requests_max):
            stack.enter_context(closing(patient.connect())).sendall(HEAD + b"Content-Length: 9\r\n\r\n")
        assert wait_for(lambda: patient.front.proxy._intake._requests == PATIENT.requests_max)
        assert patient.ask("POST /v1/completions", b'{"prompt": "a"}')[0] == 503
        assert is_up(patient)
    assert wait_for(lambda: patient.front.proxy._intake._requests == 0)
    assert patient.ask("POST /v1/completions", b'{"prompt": "a"}')[0] == 200


def test_half_requests_beyond_the_most_connections_give_way_to_whole_ones(
    patient: Fronted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient.front.proxy.connections, "_most", 10)
    with ExitStack() as stack:
        busy = stack.enter_context(closing(patient.connect()))
        busy.sendall(HEAD + b'Content-Length: 15\r\n\r\n{"prompt"')
        assert wait_for(lambda: patient.front.proxy._intake._requests == 1)
        halves = [stack.enter_context(closing(patient.connect())) for _ in range(40)]
        for half in halves:
            half.sendall(b"GET /health HTTP/1.1\r\nX-Half: ")
        assert is_up(patient)
        assert [received(half) for half in halves[:30]] == [b""] * 30  # closed, long before their deadline
        busy.sendall(b': "a"}')
        assert status(busy.recv(1 << 16)) == 200


def test_a_client_that_does_not_read_its_answer_is_disconnected(hasty: Fronted) -> None:
    hasty.engine.answer = b"x" * (64 << 20)
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(hasty.address)
        sock.sendall(HEAD + b'Content-Length: 15\r\n\r\n{"prompt": "a"}')
        assert wait_for(lambda: hasty.front.counts.left == 1)
    assert hasty.front.proxy.in_flight == 0 and is_up(hasty)


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "requests", "connections"),
    [
        (1024, 20_000, 6400, 2048, 3072), (6400, 6400, None, 2048, 3072), (1024, 1024, None, 288, 384),
        (1024, UNLIMITED, 6400, 2048, 3072), (UNLIMITED, UNLIMITED, None, 2048, 3072), (100, 100, None, 3, 4),
    ],
)  # fmt: skip
def test_what_can_be_taken_follows_the_limit_on_open_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, requests: int, connections: int
) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: calls.append(limits))
    assert capacity(Serve()) == (requests, connections)
    assert calls == ([] if raised is None else [(raised, hard)])
