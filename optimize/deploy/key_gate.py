"""The gate of a bundle's server: every path takes the key, but /health and /metrics.

vLLM itself asks for its key below /v1 and a few other prefixes only; 0.32 answers completions at /invocations, changes
the number of workers at /scale_elastic_ep, and shows its settings elsewhere, to everybody who reaches its port.

A copy of this file lies in each bundle, and vLLM loads `KeyGate` by `--middleware`, outermost of all. It imports the
standard library alone: a container has no other part of this project.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY = "VLLM_API_KEY"
"""Environment variable that holds the key, as vLLM reads it."""
OPEN = frozenset({"/health", "/metrics"})
"""Paths for probes and Prometheus."""
_REFUSAL = b'{"error":{"message":"the API key is missing or wrong: send it as a bearer token","code":401}}'
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


class KeyGate:
    """Pure ASGI middleware around vLLM's application.

    Raises:
        RuntimeError: the environment holds no key.
    """

    def __init__(self, app: _App) -> None:
        self._app, self._key = app, os.environ.get(KEY, "").encode()
        if not self._key:
            raise RuntimeError(f"{KEY} is not set: this server does not start without a key")

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan" or self._admits(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            content_type = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": content_type})
            await send({"type": "http.response.body", "body": _REFUSAL})

    def _admits(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request has the key, or needs none; what a browser asks before it sends one (OPTIONS) does not."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and (path in OPEN or scope["method"] == "OPTIONS"):
            return True
        kind, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(key, self._key)
