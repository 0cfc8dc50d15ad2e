"""Streams over HTTP whose engine dies in the middle of them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from optimize.config.serve import Serve
from optimize.engine.base import EngineConfig
from optimize.serve.front import Front, bind
from optimize.serve.instance import Instance
from optimize.serve.launchers import LauncherPool
from optimize.serve.supervisor import Supervisor
from tests.optimize.serve.byte_model import LENGTH_MAX, events
from tests.optimize.serve.canaries import SERVED, SETTINGS, TRIED, Behaviour, StubEngine, eventually
from tests.optimize.serve.test_transcript import PROMPT, TALK, client

ANSWER = "Grüße, 😀 and so on"
ERROR = b'data: {"error": {"message": "the engine core died", "code": 500}}\n\ndata: [DONE]\n\n'
PLAIN = replace(SETTINGS, canary=replace(SETTINGS.canary, row=None))


@dataclass
class Fate:
    """How an engine streams.

    Attributes:
        dies_after: Events after which it dies; None for never.
        says_so: Whether its server still says that the engine died, as vLLM's does when the engine's core is killed.
        refuses: Whether it answers requests by status 400.
        answer: Its answer.
        at_a_time: Tokens of each event.
    """

    dies_after: int | None = None
    says_so: bool = False
    refuses: bool = False
    answer: str = ANSWER
    at_a_time: int = 1


class Streamer(StubEngine):
    """An engine that streams by the model of bytes, waits where it is to die, and dies once it is told to."""

    def __init__(self, fate: Fate, number: int, asked: list[tuple[str, dict[str, Any]]]) -> None:
        self._fate, self._number, self._asked = fate, number, asked
        self._told = threading.Event()
        super().__init__(Behaviour(), str(number))

    def respond(self, handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        assert handler.headers["Authorization"] == f"Bearer key-of-{self._number}"
        if handler.command == "GET":
            models = json.dumps({"data": [{"id": "model", "max_model_len": LENGTH_MAX}]}).encode()
            return _send(handler, [models], "application/json", 200)
        if "model" in body:  # the warm-up of a standby
            return _send(handler, [b"{}"], "application/json", 200)
        self._asked.append((handler.path, dict(body)))
        if handler.path == "/detokenize":
            text = json.dumps({"prompt": bytes(body["tokens"]).decode(errors="replace")}).encode()
            return _send(handler, [text], "application/json", 200)
        if self._fate.refuses:
            return _send(handler, [b'{"error": {"message": "no"}}'], "application/json", 400)
        return _send(handler, self._pieces(body), "text/event-stream", 200)

    def _pieces(self, body: Mapping[str, Any]) -> Iterator[bytes]:
        stream = events(body, self._fate.answer, self._fate.at_a_time, str(self._number))
        yield from stream[: self._fate.dies_after]
        if self._fate.dies_after is not None:
            self._told.wait(20)
            if not self._fate.says_so:
                raise ConnectionAbortedError
            yield ERROR

    def die(self) -> None:
        self.dead = True
        if not self._fate.says_so:
            self.kill()
        self._told.set()

    def stop(self) -> None:
        self.stopped = True
        self._told.set()
        self.kill()


def _send(handler: BaseHTTPRequestHandler, pieces: Iterable[bytes], kind: str, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    with contextlib.suppress(OSError):  # of a connection that was cut
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")


class Launchers:
    """Launches an engine for each fate, in order, once it may."""

    def __init__(self, fates: Sequence[Fate]) -> None:
        self._fates, self.may_launch = fates, threading.Event()
        self.engines: list[Streamer] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.may_launch.set()

    def launch(self, slot: int, config: EngineConfig, log: Path, cgroups: Sequence[str] = ()) -> Streamer:
        self.may_launch.wait(20)
        number = len(self.engines)
        self.engines.append(Streamer(self._fates[number], number + 1, self.asked))
        return self.engines[-1]


@dataclass
class Service:
    """A front and its engines."""

    front: Front
    supervisor: Supervisor
    launchers: Launchers
    http: httpx.Client

    @property
    def counts(self) -> tuple[int, int, int]:
        counts = self.front.counts
        return counts.migrated, counts.broken_off, counts.lost

    def stream(self, fields: Mapping[str, Any], deaths: Mapping[int, int | Callable[[], object]]) -> bytes:
        """The stream that a client gets.

        Args:
            fields: Members of the request.
            deaths: Number of events that the client has -> the engine that dies then, or what else is done.
        """
        received, count = b"", 0
        path = "/v1/chat/completions" if "messages" in fields else "/v1/completions"
        with self.http.stream("POST", path, json={**fields, "stream": True}) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                received += line.encode() + b"\n"
                count += line.startswith("data:")
                if line.startswith("data:") and count in deaths:
                    event = deaths[count]
                    self.launchers.engines[event].die() if isinstance(event, int) else event()
        return received

    def promote(self, successor: Instance) -> None:
        """Have another engine serve, and end the former one, whatever it has to do."""
        self.supervisor.promote(successor, TRIED)
        assert eventually(lambda: not self.supervisor.promoting)
        self.supervisor.end_former()


@contextmanager
def serving(folder: Path, fates: Sequence[Fate], settings: Serve = PLAIN) -> Iterator[Service]:
    with ExitStack() as stack:
        sock = bind("127.0.0.1", 0)
        stack.callback(sock.close)
        launchers = Launchers(fates)
        supervisor = Supervisor(SERVED, cast(LauncherPool, launchers), settings, folder)
        front = stack.enter_context(Front(supervisor, settings, {}, None, sock))
        stack.enter_context(supervisor)
        stack.callback(launchers.may_launch.set)
        assert supervisor.wait_for_standby(20)
        http = stack.enter_context(httpx.Client(base_url=front.endpoint.base_url, trust_env=False, timeout=30))
        yield Service(front, supervisor, launchers, http)
        assert eventually(lambda: front.proxy.forwarder._room.size == 0)


def undisturbed(fields: Mapping[str, Any]) -> bytes:
    return b"".join(events(fields, ANSWER))


def ends_in_error(stream: bytes) -> bool:
    last = stream.strip().split(b"\n")[-1]
    return bool(json.loads(last.removeprefix(b"data: "))["error"]["code"] == 502) and b"[DONE]" not in stream


@pytest.mark.parametrize(
    ("fields", "standby", "says_so"),
    [(PROMPT, False, False), (TALK, True, False), (TALK, False, True)],
    ids=["completion, restart", "chat, standby", "chat, core killed"],
)
def test_another_engine_goes_on_with_a_stream_and_the_client_gets_one(
    tmp_path: Path, fields: dict[str, Any], standby: bool, says_so: bool
) -> None:
    settings, fields = replace(PLAIN, standby=standby), {**fields, "stream_options": {"include_usage": True}}
    with serving(tmp_path, [Fate(dies_after=4, says_so=says_so), Fate(), Fate()], settings) as service:
        assert client(service.stream(fields, {4: 0})) == client(undisturbed(fields))
        assert service.counts == (1, 0, 0)
        (_, first), (path, second) = service.launchers.asked
        assert path == "/v1/completions" and first["return_token_ids"] and "messages" not in second
        assert "\noptimize:migrated_total 1\n" in service.http.get("/metrics").text


def test_a_promoted_engine_goes_on_with_the_streams_that_the_former_one_has_at_its_end(tmp_path: Path) -> None:
    with serving(tmp_path, [Fate(dies_after=4), Fate()]) as service:
        successor = service.supervisor.starter.start(1, TRIED)
        assert client(service.stream(TALK, {4: lambda: service.promote(successor)})) == client(undisturbed(TALK))
        assert service.counts == (1, 0, 0)


def test_an_engine_is_asked_whether_several_tokens_end_with_a_character(tmp_path: Path) -> None:
    fields = {**PROMPT, "temperature": 0.5}
    with serving(tmp_path, [Fate(dies_after=2, at_a_time=5), Fate(), Fate()]) as service:
        assert client(service.stream(fields, {2: 0})) == client(undisturbed(fields))
        assert [path for path, _ in service.launchers.asked] == [
            "/v1/completions", "/detokenize", "/detokenize", "/v1/completions"
        ]  # fmt: skip
        assert service.launchers.asked[-1][1]["prompt"][-1] == ord(" ")


def test_a_stream_that_lacks_only_its_end_gets_it_from_no_other_engine(tmp_path: Path) -> None:
    whole = len(undisturbed(PROMPT).split(b"\n\n")) - 2  # but for [DONE]
    with serving(tmp_path, [Fate(dies_after=whole), Fate()]) as service:
        assert service.stream(PROMPT, {whole: 0}) == undisturbed(PROMPT)
        assert len(service.launchers.asked) == 1 and service.counts == (0, 0, 0)


def test_an_undisturbed_stream_is_passed_on_as_without_migration(tmp_path: Path) -> None:
    with serving(tmp_path, [Fate()]) as service:
        assert service.stream(TALK, {}) == undisturbed(TALK)


def test_a_request_whose_engines_die_of_it_gets_no_third_one(tmp_path: Path) -> None:
    with serving(tmp_path, [Fate(dies_after=3), Fate(dies_after=3), Fate()]) as service:
        stream = service.stream(PROMPT, {3: 0, 4: 1})
        assert ends_in_error(stream) and "ü" in stream.decode()  # which the second one has said
        assert len(service.launchers.asked) == 2 and service.counts == (1, 1, 1)


@pytest.mark.parametrize("settings", [{"migrations": 0}, {"retries": 0}], ids=str)
def test_without_migrations_a_stream_that_has_begun_ends_in_an_error(tmp_path: Path, settings: dict[str, int]) -> None:
    with serving(tmp_path, [Fate(dies_after=3), Fate()], replace(PLAIN, **settings)) as service:  # type: ignore[arg-type]
        assert ends_in_error(service.stream(PROMPT, {3: 0}))
        ((_, asked),) = service.launchers.asked
        assert ("return_token_ids" in asked) == (settings != {"migrations": 0})
        assert service.counts == (0, 1, 1)


@pytest.mark.parametrize(
    ("fields", "second"),
    [(PROMPT, Fate(refuses=True)), ({**PROMPT, "temperature": 0, "stop": "on the"}, Fate(answer="Gruß"))],
    ids=["refuses", "says something else"],
)
def test_an_engine_that_cannot_go_on_ends_the_stream_in_an_error(
    tmp_path: Path, fields: dict[str, Any], second: Fate
) -> None:
    with serving(tmp_path, [Fate(dies_after=13), second, Fate()]) as service:
        assert ends_in_error(service.stream(fields, {13: 0}))
        assert len(service.launchers.asked) == 2 and service.counts == (1, 1, 1)


def test_a_stream_for_which_no_engine_comes_back_in_time_ends_in_an_error(tmp_path: Path) -> None:
    with serving(tmp_path, [Fate(dies_after=3), Fate()], replace(PLAIN, wait_s=0.05)) as service:
        service.launchers.may_launch.clear()
        assert ends_in_error(service.stream(PROMPT, {3: 0}))
        assert service.counts == (0, 1, 1)


def test_nobody_goes_on_for_a_client_that_has_left(tmp_path: Path) -> None:
    with serving(tmp_path, [Fate(dies_after=3), Fate()]) as service:
        service.launchers.may_launch.clear()
        with service.http.stream("POST", "/v1/completions", json={**PROMPT, "stream": True}) as answer:
            next(answer.iter_lines())
            service.launchers.engines[0].die()
        assert eventually(lambda: service.front.counts.left == 1 and service.front.proxy.in_flight == 0)
        service.launchers.may_launch.set()
        assert eventually(lambda: len(service.launchers.engines) == 2)
        assert len(service.launchers.asked) == 1 and service.counts == (0, 0, 0)


def test_the_answer_of_two_engines_is_compared_with_a_candidates_as_a_whole(tmp_path: Path) -> None:
    candidate = Streamer(Fate(), 9, [])
    with serving(tmp_path, [Fate(dies_after=3), Fate()], SETTINGS) as service:
        service.front.mirror.open(candidate.endpoint)
        service.stream({**PROMPT, "temperature": 0}, {3: 0})
        assert eventually(lambda: not service.front.mirror.under_way)
        (pair,) = service.front.mirror.take()
    candidate.stop()
    assert (pair.agreement, pair.length, pair.latency, pair.failed) == (1.0, 1.0, None, False)
