"""Servers in this process, and requests to them byte for byte: clients mend the paths and headers that they send."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn

from optimize.ui.server import server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


@dataclass(frozen=True)
class Answer:
    """A response; names of headers in lower case. Only headers that do not tell the time are compared."""

    status: int
    headers: dict[str, str] = field(compare=False)
    body: str


@contextmanager
def serving(application: WSGIApplication) -> Iterator[int]:
    """A WSGI application on a free port of loopback."""
    with server(application, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listening.server_port
        finally:
            listening.shutdown()
            thread.join()


@contextmanager
def serving_asgi(application: Any) -> Iterator[int]:
    """An ASGI application on a free port of loopback."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, log_level="critical", lifespan="off", proxy_headers=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([listening])))
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()
        listening.close()


def request(port: int, line: str, *headers: str, host: str | None = "localhost", body: str = "") -> Answer:
    """Answer to a request line and headers as they are.

    Args:
        port: The server's.
        line: Method and path.
        headers: Each as "Name: value".
        host: Its Host header, "{port}" replaced; None sends none.
        body: Sent with its length.
    """
    message = _message(port, line, headers, host, body)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(message)
        return _answer(b"".join(iter(lambda: connection.recv(1 << 16), b"")))


_AS_ANOTHER = """
import encodings.idna, os, socket, sys
os.setgid(65534); os.setuid(65534)
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
connection.sendall(bytes.fromhex(sys.argv[2]))
while received := connection.recv(1 << 16): sys.stdout.buffer.write(received)
"""


def request_as_nobody(port: int, line: str, *headers: str, host: str | None = "localhost", body: str = "") -> Answer:
    """The same by another user of the machine; only root can ask for it."""
    message = _message(port, line, headers, host, body)
    command = [sys.executable, "-c", _AS_ANOTHER, str(port), message.hex()]
    return _answer(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def _message(port: int, line: str, headers: tuple[str, ...], host: str | None, body: str) -> bytes:
    hosts = [f"Host: {host}".replace("{port}", str(port))] if host is not None else []
    lengths = [f"Content-Length: {len(body)}"] if body else []
    ours = [header.replace("{port}", str(port)) for header in headers]
    return "\r\n".join([f"{line} HTTP/1.1", *hosts, *ours, *lengths, "Connection: close", "", body]).encode()


def _answer(received: bytes) -> Answer:
    head, _, body = received.decode("utf-8", "replace").partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    return Answer(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body)
