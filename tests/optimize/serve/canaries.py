"""A canary on engines within this process: planted delays, errors and answers, and deaths on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx

from optimize.config.canary import Canary
from optimize.config.serve import Serve
from optimize.engine.base import Endpoint, EngineConfig, RequestConfig, TrialConfig
from optimize.errors import EngineFailure, FailureKind
from optimize.serve.candidate import Candidate
from optimize.serve.front import Front, bind
from optimize.serve.launchers import LauncherPool
from optimize.serve.rollout import Rollout, State
from optimize.serve.supervisor import Supervisor
from optimize.study.target import Target

SERVED, TRIED = EngineConfig("model", "fp16"), EngineConfig("model", "int8", (("max_logprobs", 40),))
TEXT = "the old dog sees the cat"
# So wide that a dozen pairs on a busy machine decide; the judge's own tests have the figures of practice.
CANARY = Canary(row="7", share=1.0, block_s=0.001, margin=1.0, failures_max=0.4, agreement_min=0.5, alpha=0.5)
SETTINGS = Serve(
    probe_s=60, probe_timeout_s=1, backoff_first_s=0.01, healthy_s=0.0, wait_s=20, drain_s=20, canary=CANARY,
    probe_failures=1 << 30, unanswered_max_s=3600.0,
)  # fmt: skip


@dataclass
class Behaviour:
    """How the engines of one configuration answer.

    Attributes:
        text: Their answer.
        status: Its HTTP status.
        delay_s: Pause before it.
        starts: Whether they start.
        gate: Answers wait for it.
        arrivals: (Path, headers) of requests that reached them.
    """

    text: str = TEXT
    status: int = 200
    delay_s: float = 0.0
    starts: bool = True
    gate: threading.Event = field(default_factory=threading.Event)
    arrivals: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()


class StubEngine:
    """An HTTP server with a thread per request, which can be killed."""

    warm = True
    pids: Sequence[int] = ()

    def __init__(self, behaviour: Behaviour, name: str) -> None:
        self.dead = self.stopped = False
        self._behaviour, self._connections = behaviour, list[socket.socket]()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                engine._connections.append(self.connection)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                behaviour.arrivals.append((self.path, dict(self.headers)))
                behaviour.gate.wait(20)
                time.sleep(behaviour.delay_s)
                if not engine.dead:
                    engine.respond(self, body)

            def do_GET(self) -> None:
                engine.respond(self, {})

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True).start()
        self.endpoint = Endpoint(f"http://127.0.0.1:{self._server.server_port}", f"key-of-{name}", "model")

    def respond(self, handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        content, kind = self._content(body)
        handler.send_response(self._behaviour.status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _content(self, body: Mapping[str, Any]) -> tuple[bytes, str]:
        words = self._behaviour.text.split()
        if not body.get("stream"):
            return json.dumps({"choices": [{"index": 0, "text": " ".join(words)}]}).encode(), "application/json"
        parts = [json.dumps({"choices": [{"index": 0, "text": f"{word} "}]}) for word in words]
        return "".join(f"data: {part}\n\n" for part in [*parts, "[DONE]"]).encode(), "text/event-stream"

    def kill(self) -> None:
        """As SIGKILL does: every connection is cut, and no further one is accepted."""
        self.dead = True
        self._end()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _end(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def broken(self) -> str | None:
        return "process engine (1) died" if self.dead else None

    def check(self) -> None:
        raise EngineFailure(FailureKind.CRASH, "died")

    def stop(self) -> None:
        self.stopped = True
        if not self.dead:
            self._end()


class StubLaunchers:
    """Launches stub engines by their quantization."""

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        self._behaviours = behaviours
        self.engines: list[tuple[str, StubEngine]] = []

    def launch(self, slot: int, config: EngineConfig, log: Path, cgroups: Sequence[str] = ()) -> StubEngine:
        behaviour = self._behaviours[config.quantization]
        if not behaviour.starts:
            raise EngineFailure(FailureKind.REFUSED, "no such kernel")
        engine = StubEngine(behaviour, config.quantization)
        self.engines.append((config.quantization, engine))
        return engine

    def of(self, quantization: str) -> list[StubEngine]:
        return [engine for name, engine in self.engines if name == quantization]


@dataclass
class Service:
    """A front with a canary, whose steps the test takes."""

    front: Front
    supervisor: Supervisor
    rollout: Rollout
    launchers: StubLaunchers
    served: Behaviour
    tried: Behaviour
    lines: list[str]
    now: list[float]
    http: httpx.Client

    def ask(self, path: str = "/v1/completions", **fields: Any) -> httpx.Response:
        body = {"model": "model", "prompt": "a", "temperature": 0, **fields}
        return self.http.post(path, json=body)

    def ask_until(self, state: State, most: int = 60, **fields: Any) -> list[httpx.Response]:
        """Ask one request after the other until the canary has come to a state."""
        answers: list[httpx.Response] = []
        while self.rollout.state is not state and len(answers) < most:
            answers.append(self.ask(**fields))
            self.settle()
            self.rollout.step()
        assert self.rollout.state is state, (self.rollout.state, self.lines)
        return answers

    def state_after_step(self) -> State:
        self.rollout.step()
        return self.rollout.state

    def settle(self) -> None:
        """Wait until the candidate has answered all of its copies."""
        assert eventually(lambda: not self.front.mirror.under_way)

    def asking(self, **fields: Any) -> tuple[threading.Thread, list[httpx.Response]]:
        """A request in a thread of its own, which has reached the serving engine."""
        answers: list[httpx.Response] = []
        before = len(self.served.arrivals)
        thread = threading.Thread(target=lambda: answers.append(self.ask(**fields)))
        thread.start()
        assert eventually(lambda: len(self.served.arrivals) > before)
        return thread, answers

    def metrics(self) -> str:
        return self.http.get("/metrics").text


def eventually(condition: Any, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return False


def candidate(folder: Path) -> Candidate:
    target = Target("row 7 of study chat", {"quantization": "int8"}, TrialConfig(TRIED, RequestConfig()))
    return Candidate(target, "row=7", 1, folder / "canary.json")


@contextmanager
def canary(
    folder: Path, tried: Behaviour | None = None, settings: Serve = SETTINGS, compared: bool = True
) -> Iterator[Service]:
    """A service whose candidate is up, unless it is not to be `compared` yet."""
    served, tried, lines, now = Behaviour(), tried or Behaviour(), list[str](), [0.0]
    launchers = StubLaunchers({"fp16": served, "int8": tried})
    with ExitStack() as stack:
        sock = bind("127.0.0.1", 0)
        stack.callback(sock.close)
        supervisor = Supervisor(SERVED, cast(LauncherPool, launchers), settings, folder, lines.append)
        front = stack.enter_context(Front(supervisor, settings, {}, None, sock))
        stack.enter_context(supervisor)
        rollout = Rollout(candidate(folder), supervisor, front, settings, lines.append, lambda: now[0])
        stack.callback(rollout.__exit__)
        http = stack.enter_context(httpx.Client(base_url=front.endpoint.base_url, trust_env=False, timeout=30))
        service = Service(front, supervisor, rollout, launchers, served, tried, lines, now, http)
        if compared:
            rollout.step()
            assert rollout.state is State.COMPARING
            tried.arrivals.clear()  # those of the warm-up
        yield service
