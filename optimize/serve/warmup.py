"""First answers of an engine that nobody waits for yet: they may have to compile kernels, for seconds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from optimize.engine.base import Endpoint

_TOGETHER = 4
_TIMEOUT_S = 120.0


def warm_up(endpoint: Endpoint) -> None:
    """Ask for a few short answers, one alone and several at once; what fails here fails again where it is seen."""
    body = {"model": endpoint.model, "prompt": "a", "max_tokens": 4, "temperature": 0.0, "ignore_eos": True}

    def ask(_: int) -> None:
        try:
            httpx.post(
                f"{endpoint.base_url}/v1/completions", json=body, headers=endpoint.headers, timeout=_TIMEOUT_S
            )  # fmt: skip
        except httpx.HTTPError:
            return

    ask(0)
    with ThreadPoolExecutor(_TOGETHER) as pool:
        list(pool.map(ask, range(_TOGETHER)))
