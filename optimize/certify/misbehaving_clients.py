"""Misbehaving clients, which request too many beams or disconnect in the middle of an answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.http_client import client_of

if TYPE_CHECKING:
    from optimize.workload.workload import Prompt

_BEAM_TOKENS, _LONG_TOKENS = 32, 200
_TIMEOUT_S = 60.0


@dataclass
class Answers:
    """Answers to a flood of requests.

    Attributes:
        statuses: HTTP status, or name of an error -> number of answers.
        first_refused_at: `time.monotonic()` of the first refusal; None without one.
        refusal: Message of the first refusal.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    first_refused_at: float | None = None
    refusal: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: str, text: str) -> None:
        with self._lock:
            self.statuses[status] += 1
            if status.startswith("4") and self.first_refused_at is None:
                self.first_refused_at, self.refusal = time.monotonic(), text[:160]

    def in_words(self) -> str:
        counted = ", ".join(f"{n} × {status}" for status, n in sorted(self.statuses.items()))
        return f"{counted} ({self.refusal})" if self.refusal else counted


def body_of(endpoint: Endpoint, prompt: Prompt, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of a request with one prompt, a text or a chat."""
    chat = not isinstance(prompt, str)
    path = "/v1/chat/completions" if chat else "/v1/completions"
    return path, {"model": endpoint.model, "temperature": 0.0, "messages" if chat else "prompt": prompt, **fields}


def flood(endpoint: Endpoint, prompt: Prompt, beams: int, clients: int, seconds: float) -> Answers:
    """Request a number of beams repeatedly from several clients at once, at least once each."""
    path, body = body_of(endpoint, prompt, use_beam_search=True, n=beams, max_tokens=_BEAM_TOKENS)
    answers, deadline = Answers(), time.monotonic() + seconds

    def client(_: int) -> None:
        with client_of(endpoint, _TIMEOUT_S) as http:
            while True:
                answers.add(*_ask(http, path, body))
                if time.monotonic() >= deadline:
                    return
                time.sleep(0.05)  # repeated immediate refusals must not add a load of their own

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return answers


def _ask(http: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, str]:
    try:
        answer = http.post(path, json=body)
    except httpx.HTTPError as error:
        return type(error).__name__, ""
    return str(answer.status_code), _message(answer)


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text


def break_off(endpoint: Endpoint, prompt: Prompt, clients: int) -> int:
    """Begin long answers on several clients at once and disconnect after the first piece; returns how many began."""
    path, body = body_of(endpoint, prompt, stream=True, max_tokens=_LONG_TOKENS, ignore_eos=True)

    def client(_: int) -> bool:
        with client_of(endpoint, _TIMEOUT_S) as http:
            try:
                with http.stream("POST", path, json=body) as answer:
                    return answer.status_code == 200 and next(answer.iter_raw(), b"") != b""
            except httpx.HTTPError:
                return False

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(client, range(clients)))
