"""What the front itself asks an engine, beside what clients ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from optimize.engine.base import Endpoint

# Idle connections close before vLLM closes them (5 s), so that no request is sent into a closing connection.
_KEEPALIVE_S = 2.0
_CHARACTER_BYTES_MAX = 4  # of UTF-8
_INCOMPLETE = "\ufffd"


def connections_to_engines() -> aiohttp.ClientSession:
    """Connections that have no limits of their own; requests are limited where they come in."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)


class EngineQueries:
    """Short questions to engines.

    Args:
        http: Connections to engines.
        timeout_s: Time limit of an answer.
    """

    def __init__(self, http: aiohttp.ClientSession, timeout_s: float) -> None:
        self._http, self._timeout = http, aiohttp.ClientTimeout(total=timeout_s)

    async def metrics(self, endpoint: Endpoint) -> str:
        """Text of the engine's /metrics; empty where it does not answer in time."""
        try:
            return (await self._ask("GET", endpoint, "/metrics")).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def length_max(self, endpoint: Endpoint) -> int | None:
        """Most tokens of a request and its answer together; None where the engine does not say.

        Raises:
            aiohttp.ClientError: it cannot be asked.
        """
        try:
            models = await self._document("GET", endpoint, "/v1/models")
            return int(models["data"][0]["max_model_len"])
        except (TimeoutError, ValueError, TypeError, LookupError):
            return None

    async def incomplete_tokens(self, endpoint: Endpoint, tokens: Sequence[int]) -> int | None:
        """How many of the last tokens are part of a character that is not complete; None where nobody knows.

        Raises:
            aiohttp.ClientError: the engine cannot be asked.
        """
        try:
            for count in range(min(_CHARACTER_BYTES_MAX, len(tokens))):
                asked = {"tokens": list(tokens[: len(tokens) - count])}
                document = await self._document("POST", endpoint, "/detokenize", asked)
                if not document["prompt"].endswith(_INCOMPLETE):
                    return count
        except (TimeoutError, ValueError, TypeError, LookupError, AttributeError):
            pass
        return None

    async def _document(self, method: str, endpoint: Endpoint, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return json.loads(await self._ask(method, endpoint, path, body))

    async def _ask(self, method: str, endpoint: Endpoint, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        async with self._http.request(
            method, f"{endpoint.base_url}{path}", json=body, headers=endpoint.headers, timeout=self._timeout
        ) as answer:  # fmt: skip
            return await answer.read()
