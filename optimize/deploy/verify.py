"""Verification of a bundle: starts its command as a user would, requests answers, and reads its memory."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.http_client import client_of, route_of
from optimize.engine.log_text import read_log
from optimize.engine.process import ColdTree, free_port
from optimize.errors import OptimizeError
from optimize.redaction import register

_POLL_S = 0.2
_GRACE_S, _ANSWER_S = 5.0, 120.0
_CONCURRENCY, _TOKENS = 16, 32


@dataclass(frozen=True)
class Serving:
    """A bundle's server while it runs.

    Attributes:
        base_url: Its address.
        api_key: The key that it requires.
        ready_s: Seconds from its start until it was ready.
        tree: Its processes.
    """

    base_url: str
    api_key: str
    ready_s: float
    tree: ColdTree

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


@contextmanager
def serving(
    folder: Path, timeout_s: float, port: int | None = None, arguments: Sequence[str] = ()
) -> Iterator[Serving]:
    """The server of a bundle, with a random key.

    Args:
        folder: Folder of the bundle.
        timeout_s: How long it may take until it is ready.
        port: Port that it listens on; None for a free one.
        arguments: Further flags of vLLM.

    Raises:
        OptimizeError: it ended or was not ready in time; the message has the last line of its log.
    """
    port, key, log = port or free_port(), secrets.token_urlsafe(24), folder / "verify.log"
    _register_secrets(folder / "secrets.env")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("VLLM_", "SERVE_"))}
    env = inherited | {"VLLM_API_KEY": key, "SERVE_PORT": str(port)}
    began = time.monotonic()
    tree = ColdTree(["bash", str(folder / "serve.sh"), *arguments], env, log, _GRACE_S)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, tree, log, began + timeout_s)
        yield Serving(url, key, time.monotonic() - began, tree)
    finally:
        tree.stop()


def _register_secrets(path: Path) -> None:
    """Keep what the user has written there out of the log, to which the server may write its flags."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                register(value.strip("'\""), f"${name}")


def _wait(url: str, tree: ColdTree, log: Path, deadline: float) -> None:
    while not _healthy(url):
        if tree.ended.wait(_POLL_S) or time.monotonic() > deadline:
            lines = read_log(log).strip().splitlines() if log.exists() else []
            last = lines[-1] if lines else "its log is empty"
            raise OptimizeError(f"the bundle's serve.sh does not serve: {last} (the whole log: {log})")


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1, **route_of(url)).status_code == 200
    except httpx.HTTPError:
        return False


def memory_after_answers(server: Serving, model: str) -> float:
    """Bytes of all processes of the server together, after a few simultaneous answers."""
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        list(pool.map(lambda number: ask(server, model, f"{number} birds and a dog", _TOKENS), range(_CONCURRENCY)))
    return float(server.tree.pss_bytes())


def ask(server: Serving, model: str, prompt: str, max_tokens: int) -> str:
    """One answer.

    Raises:
        OptimizeError: no answer, or an error.
    """
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    try:
        with client_of(Endpoint(server.base_url, server.api_key, model), _ANSWER_S) as http:
            answer = http.post("/v1/completions", json=body)
        return str(answer.raise_for_status().json()["choices"][0]["text"])
    except httpx.HTTPError as error:
        raise OptimizeError(f"the bundle's server does not answer: {error}") from error


ANSWERS = _CONCURRENCY
