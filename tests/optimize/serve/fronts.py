"""A real front before an engine that records what reaches it, spoken to over raw sockets: an HTTP library would tidy up
what it is told to send.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from optimize.config.serve import Serve
from optimize.engine.base import Endpoint
from optimize.serve.front import Front, bind
from optimize.serve.restart_log import RestartLog
from optimize.serve.supervisor import Supervisor

ENGINE_KEY, MODEL = "key-of-the-engine", "model"


@dataclass(frozen=True)
class Arrival:
    """A request as the engine received it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class RecordingEngine:
    """What reached the engine so far, and the headers with which it answers."""

    arrivals: list[Arrival] = field(default_factory=list)
    answer: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def engine() -> Iterator[tuple[RecordingEngine, Endpoint]]:
    """An engine within this process."""
    recorded = RecordingEngine()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            recorded.arrivals.append(Arrival(self.command, self.path, dict(self.headers), body))
            self.send_response(200)
            for name, value in recorded.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(recorded.answer)))
            self.end_headers()
            self.wfile.write(recorded.answer)

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
    try:
        yield recorded, Endpoint(f"http://127.0.0.1:{server.server_port}", ENGINE_KEY, MODEL)
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Fronted:
    """A front, and the engine behind it."""

    front: Front
    engine: RecordingEngine

    @property
    def address(self) -> tuple[str, int]:
        return cast("tuple[str, int]", self.front._socket.getsockname()[:2])

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def exchange(self, request: bytes) -> bytes:
        """Send bytes, and return all that is answered until the front closes the connection."""
        with closing(self.connect()) as sock:
            sock.sendall(request)
            return received(sock)

    def ask(self, request: str | bytes, body: bytes = b"", *headers: str) -> tuple[int, bytes]:
        """Status and body of the answer to a request line, with the usual headers but for those given."""
        names = {header.partition(":")[0].lower() for header in headers}
        usual = ["Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines = [*headers, *(h for h in usual if h.partition(":")[0].lower() not in names), "Connection: close"]
        line = request.encode() if isinstance(request, str) else request
        head = b"\r\n".join([line + b" HTTP/1.1", *(h.encode("utf-8", "surrogateescape") for h in lines)])
        answer = self.exchange(head + b"\r\n\r\n" + body)
        return status(answer), answer.partition(b"\r\n\r\n")[2]


def received(sock: socket.socket) -> bytes:
    """Everything up to the end of a connection."""
    parts = []
    try:
        while part := sock.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status(answer: bytes) -> int:
    """Status of an answer; 0 where the connection ended without one. A client that asked for leave got "100" first."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


@contextmanager
def fronted(
    folder: Path, settings: Serve | None = None, key: str | None = None, host: str = "127.0.0.1"
) -> Iterator[Fronted]:
    """A front that listens on a free port, its engine up."""
    settings = settings or Serve()
    with engine() as (recorded, endpoint), closing(bind(host, 0)) as sock:
        supervisor = SimpleNamespace(
            current=SimpleNamespace(engine=SimpleNamespace(endpoint=endpoint), generation=1), metrics={},
            standby_ready=False, supervised=True, restarts=RestartLog(folder / "restarts.jsonl"),
            subscribe=lambda _: None, check_now=lambda: None,
        )  # fmt: skip
        with Front(cast(Supervisor, supervisor), settings, {}, key, sock) as front:
            yield Fronted(front, recorded)
