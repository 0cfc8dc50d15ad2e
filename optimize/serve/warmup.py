"""Warm-up of an engine that no client waits for yet: its first answers may take seconds to compile kernels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.http_client import client_of

_CONCURRENCY = 4
_TIMEOUT_S = 120.0


def warm_up(endpoint: Endpoint) -> None:
    """Request a few short answers, first one alone and then several at once.

    Errors are ignored: an engine that cannot answer is detected by its probe.
    """
    body = {"model": endpoint.model, "prompt": "a", "max_tokens": 4, "temperature": 0.0, "ignore_eos": True}

    def ask(_: int) -> None:
        try:
            with client_of(endpoint, _TIMEOUT_S) as http:
                http.post("/v1/completions", json=body)
        except httpx.HTTPError:
            return

    ask(0)
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        list(pool.map(ask, range(_CONCURRENCY)))
