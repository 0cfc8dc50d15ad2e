"""Prometheus and node_exporter as Debian packages them, for as long as a test or a benchmark lasts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from optimize.engine.process import free_port

_get = partial(httpx.get, trust_env=False)  # on this machine, whatever the environment's proxies

PROGRAMS = ("prometheus", "prometheus-node-exporter", "promtool")


def missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The instant vector of an expression."""
        answer = _get(f"{self.url}/api/v1/query", params={"query": expr}, timeout=5).raise_for_status().json()
        return list(answer["data"]["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its state and its alerts."""
        groups = _get(f"{self.url}/api/v1/rules", timeout=5).raise_for_status().json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    """Wait until something holds; whether it ever did."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    return False


@contextmanager
def node_exporter(address: str) -> Iterator[None]:
    with _running(["prometheus-node-exporter", f"--web.listen-address={address}"]):
        yield


@contextmanager
def prometheus(config: Path, data: Path) -> Iterator[Prometheus]:
    """Prometheus on a free port of loopback, ready."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={address}",
    ]  # fmt: skip
    with _running(command):
        url = f"http://{address}"
        assert until(lambda: _get(f"{url}/-/ready", timeout=1).status_code == 200), "Prometheus was not ready"
        yield Prometheus(url)


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)
