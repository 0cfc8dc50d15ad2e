"""The stub server as an engine: what a load generator does when nothing but itself is in the way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from objectives import MemoryParts
from optimize.engine.base import Endpoint
from optimize.engine.http_client import route_of
from optimize.engine.process import free_port


class StubEngine:
    """An engine whose server is `optimize.testing.stub_server`."""

    def __init__(self, endpoint: Endpoint, pid: int) -> None:
        self.endpoint = endpoint
        self.pids: Sequence[int] = [pid]

    def check(self) -> None: ...

    def reset(self) -> None: ...

    def memory(self) -> MemoryParts | None:
        return None

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return {}

    def stop(self) -> None: ...


@contextmanager
def stub(*options: object) -> Iterator[StubEngine]:
    """A stub server in a process of its own."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "optimize.testing.stub_server", str(port), *map(str, options)]
    ) as process:
        try:
            endpoint = Endpoint(f"http://127.0.0.1:{port}", None, "model")
            while not _answers(endpoint):
                time.sleep(0.05)
            yield StubEngine(endpoint, process.pid)
        finally:
            process.kill()


def _answers(endpoint: Endpoint) -> bool:
    try:
        return httpx.get(f"{endpoint.base_url}/v1/models", **route_of(endpoint.base_url)).is_success
    except httpx.HTTPError:
        return False
