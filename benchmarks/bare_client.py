"""A client that costs next to nothing: requests built beforehand, blocking sockets, answers that are not decoded.

It stands for a client on another machine: what it reads is what the engine does, not what sharing processors with a
client does. `python -m benchmarks.bare_client` takes a `Job` as JSON on standard input and prints the figures as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from optimize.engine.base import Endpoint, RequestConfig
from optimize.files import python_path
from optimize.load.request_body import request_body
from optimize.workload.workload import Prompt

_END, _LAST_CHUNK = b"data: [DONE]", b"0\r\n\r\n"
_CHUNK_BYTES, _TAIL_BYTES = 1 << 16, 64


@dataclass(frozen=True, slots=True)
class Job:
    """A closed loop without think time.

    Attributes:
        host: Of the engine.
        port: Of the engine.
        requests: Whole HTTP requests.
        users: Connections, each with one request under way.
        warmup_s: Seconds before the window.
        window_s: Seconds of the window.
    """

    host: str
    port: int
    requests: list[str]
    users: int
    warmup_s: float
    window_s: float


def requests_of(endpoint: Endpoint, prompts: Sequence[Prompt], max_tokens: int) -> list[str]:
    """The bytes of one streamed, greedy request per prompt, the same that the load's clients send."""
    base = request_body(endpoint, RequestConfig(), max_tokens)
    return [_request(endpoint, prompt, base) for prompt in prompts]


def _request(endpoint: Endpoint, prompt: Prompt, base: dict[str, Any]) -> str:
    chat = not isinstance(prompt, str)
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body = json.dumps({**base, "messages" if chat else "prompt": prompt})
    headers = {
        "Host": urlsplit(endpoint.base_url).netloc, **endpoint.headers,
        "Content-Type": "application/json", "Content-Length": str(len(body)),
    }  # fmt: skip
    return "\r\n".join([f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", body])


def run(job: Job) -> dict[str, Any]:
    """Run a job in a process of its own; returns what `main` prints."""
    command = [sys.executable, "-m", "benchmarks.bare_client"]
    env = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(command, input=json.dumps(asdict(job)), env=env, text=True, capture_output=True, check=True)
    return dict(json.loads(done.stdout))


class _Users:
    """Connections, each with one request under way.

    Attributes:
        answers: (time since the start, latency) of every answer, in seconds.
    """

    def __init__(self, job: Job) -> None:
        self.answers: list[tuple[float, float]] = []
        self._requests = itertools.cycle(request.encode() for request in job.requests)
        self._sockets = [socket.create_connection((job.host, job.port)) for _ in range(job.users)]
        self._by_number = {connection.fileno(): connection for connection in self._sockets}
        self._sent_s: dict[int, float] = {}
        self._tails: dict[int, bytes] = {}
        self._began = time.monotonic()

    def clock(self) -> float:
        return time.monotonic() - self._began

    def run(self, end_s: float) -> None:
        poll = select.poll()
        for number in self._by_number:
            poll.register(number, select.POLLIN)
            self._send(number)
        while (now := self.clock()) < end_s:
            for number, _ in poll.poll(1000 * (end_s - now)):
                self._receive(number)

    def _send(self, number: int) -> None:
        self._sent_s[number], self._tails[number] = self.clock(), b""
        self._by_number[number].sendall(next(self._requests))

    def _receive(self, number: int) -> None:
        data = self._by_number[number].recv(_CHUNK_BYTES)
        if not data:
            raise SystemExit("the engine closed a connection")
        tail = self._tails[number] = self._tails[number][-_TAIL_BYTES:] + data
        if _END in tail and tail.endswith(_LAST_CHUNK):
            self.answers.append((self.clock(), self.clock() - self._sent_s[number]))
            self._send(number)


def main() -> None:
    """Prints answers per second, their latencies in seconds, and the cores that this client took."""
    job = Job(**json.loads(sys.stdin.read()))
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # served at once; it computes for microseconds
    began, users, end_s = time.process_time(), _Users(job), job.warmup_s + job.window_s
    users.run(end_s)
    cores = (time.process_time() - began) / end_s
    latencies_s = [latency_s for at_s, latency_s in users.answers if at_s >= job.warmup_s]
    print(json.dumps({"qps": len(latencies_s) / job.window_s, "latencies_s": latencies_s, "client_cores": cores}))


if __name__ == "__main__":
    main()
