"""Connections, refusals and addresses of endpoints that are not our own engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from objectives import RequestRecord
from optimize.engine.base import Access
from optimize.errors import ConfigError, TransientFault
from optimize.load.protocol import Bounds
from optimize.load.refusals import fault_of, retry_after_s
from tests.optimize.authority import own_authority
from tests.optimize.load.replay import DONE, Replay, answers, response

OK = response(DONE)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE)
BUSY = response(b"slow down", "text/plain", "429 Too Many Requests", "Retry-After: 0.02\r\n")


def errors(records: list[RequestRecord]) -> list[str | None]:
    return [record.error for record in records]


def test_a_request_on_a_connection_that_the_server_has_closed_is_sent_again() -> None:
    replay = Replay([OK, b"", OK])
    assert errors(answers(replay, ["one", "two"])) == [None, None]
    assert [connection for connection, *_ in replay.requests] == [1, 1, 2]


def test_a_new_connection_that_ends_without_an_answer_is_a_failure_and_not_sent_again() -> None:
    replay = Replay([b""])
    assert errors(answers(replay)) == ["connection"]
    assert len(replay.requests) == 1


def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    replay = Replay([OK[:-30]], ends=True)
    assert errors(answers(replay)) == ["connection"] and len(replay.requests) == 1


@pytest.mark.parametrize(
    ("raw", "connections"),
    [
        (OK, [1, 1]),
        (CHUNKED, [1, 1]),
        (response(DONE, headers="Connection: close\r\n"), [1, 2]),
        (response(DONE, version="HTTP/1.0"), [1, 2]),
        (response(DONE, version="HTTP/1.0", headers="Connection: keep-alive\r\n"), [1, 1]),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + DONE, [1, 2]),
    ],
    ids=["of a length", "chunked", "close", "1.0", "1.0 kept", "1.0 without a length"],
)
def test_connections_are_kept_as_the_server_says(raw: bytes, connections: list[int]) -> None:
    replay = Replay([raw], ends=connections == [1, 2])
    assert errors(answers(replay, ["one", "two"])) == [None, None]
    assert [connection for connection, *_ in replay.requests] == connections


def test_the_end_of_a_chunked_answer_may_come_late_and_the_connection_is_kept() -> None:
    replay = Replay([CHUNKED], pieces=lambda raw: [raw[:-5], *(raw[i : i + 1] for i in range(len(raw) - 5, len(raw)))])
    assert errors(answers(replay, ["one", "two"])) == [None, None]
    assert [connection for connection, *_ in replay.requests] == [1, 1]


def test_an_error_within_an_answer_ends_it_although_the_server_keeps_the_stream_open() -> None:
    data = b'data: {"error": {"message": "out of memory"}}\n\n'
    unended = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(data), data)
    (record,) = answers(Replay([unended]), bounds=Bounds(8, 2.0))
    assert (record.error, record.text) == ("aborted", "out of memory")


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("429 Too Many Requests", "", "throttled"),
        ("503 Service Unavailable", "Retry-After: 7\r\n", "throttled"),
        ("503 Service Unavailable", "", "server"),
        ("401 Unauthorized", "", "unauthorized"),
        ("403 Forbidden", "", "unauthorized"),
        ("404 Not Found", "", "refused"),
        ("308 Permanent Redirect", "Location: https://there.example/v1\r\n", "refused"),
    ],
)
def test_each_refusal_has_a_class_of_its_own(status: str, headers: str, error: str) -> None:
    (record,) = answers(Replay([response(b"", "text/plain", status, headers)]))
    assert record.error == error and record.text.startswith(f"HTTP {status[:3]}")


def test_a_throttled_request_counts_as_failed_unless_the_wait_is_honoured() -> None:
    impatient, patient = Replay([BUSY, OK]), Replay([BUSY, OK])
    assert errors(answers(impatient)) == ["throttled"] and len(impatient.requests) == 1
    (record,) = answers(patient, bounds=Bounds(8, 30.0, honours_retry_after=True))
    assert record.error is None and len(patient.requests) == 2
    assert record.latency_s >= 0.02  # the wait is the user's, too


def test_a_wait_beyond_the_time_limit_leaves_the_request_throttled() -> None:
    late = response(b"", "text/plain", "429 Too Many Requests", "Retry-After: 3600\r\n")
    (record,) = answers(Replay([late]), bounds=Bounds(8, 0.05, honours_retry_after=True))
    assert record.error == "throttled"


class Head:
    """The head of a response."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


def test_the_time_to_ask_again_is_read_in_every_form() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    assert retry_after_s(Head(429, Retry_After="3")) == 3.0
    assert retry_after_s(Head(429, retry_after_ms="250", Retry_After="1")) == 0.25
    assert retry_after_s(Head(429, Retry_After=in_a_minute)) == pytest.approx(60, abs=5)
    assert retry_after_s(Head(429, Retry_After="soon")) == retry_after_s(Head(429)) == 1.0
    assert retry_after_s(Head(429, Retry_After="-5")) == 0.0
    assert retry_after_s(Head(400, Retry_After="3")) is None


def failed(error: str, text: str) -> RequestRecord:
    return RequestRecord(0, 0.0, 0.0, None, 1.0, None, None, text, error)


def test_what_is_not_the_configurations_fault_says_whose_it_is() -> None:
    denied, busy, broken = failed("unauthorized", "bad key"), failed("throttled", "slow down"), failed("server", "oops")
    assert fault_of([broken, denied, broken]) is None and fault_of([]) is None
    with pytest.raises(ConfigError, match=r"bad key.*engine\.key_header_name"):
        raise fault_of([denied]) or AssertionError
    with pytest.raises(TransientFault, match=r"turned 2 of 3 requests away.*load\.honour_retry_after=true"):
        raise fault_of([busy, broken, busy]) or AssertionError


def test_requests_carry_what_the_endpoint_asks_for() -> None:
    access = Access(
        "", "api-version=2024-10-21", (("X-Team", "search"),),
        fields=(("stream_options", None), ("max_completion_tokens", 1), ("seed", 7)),
    )  # fmt: skip
    replay = Replay([OK])
    assert errors(answers(replay, [[{"role": "user", "content": "hi"}]], access=access)) == [None]
    _, head, body = replay.requests[0]
    assert head.startswith("POST /chat/completions?api-version=2024-10-21 HTTP/1.1\r\n") and "X-Team: search" in head
    fields: dict[str, Any] = json.loads(body)
    assert "stream_options" not in fields and "max_tokens" not in fields
    assert (fields["max_completion_tokens"], fields["seed"], fields["stream"]) == (8, 7, True)


def test_an_ipv6_endpoint_is_asked() -> None:
    assert errors(answers(Replay([OK]), host="::1")) == [None]


def test_a_certificate_of_ones_own_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    ca_file, server = own_authority(tmp_path)
    assert errors(answers(Replay([OK]), tls=server, access=Access(ca_file=str(ca_file)))) == [None]
    (record,) = answers(Replay([OK]), tls=server)
    assert record.error == "connection" and "CERTIFICATE_VERIFY_FAILED" in record.text
