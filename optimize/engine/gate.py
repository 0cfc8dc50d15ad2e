"""The gate of an engine's API server: every path takes the key, and no name but loopback's is answered.

vLLM itself checks its key only below /v1 and a few other prefixes. Its development endpoints (/collective_rpc executes
code) and /metrics would be open to every user of the machine, and, by a rebound DNS name, to web pages.

vLLM loads `Gate` by `--middleware`, outermost of all. It imports nothing heavy, and a request costs it two look-ups in
a list of some ten headers.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

KEY = "OPTIMIZE_ENGINE_KEY"
"""Environment variable that holds the key. Every user of the machine could read it on a command line.

It is not vLLM's own `VLLM_API_KEY`: vLLM 0.25 hashes that one into the key of what it compiles, so that with a random
value every engine would compile anew. vLLM's own check is not needed behind the gate, which guards every path.
"""
_LOOPBACK = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_REFUSAL = b'{"error":{"message":"this engine answers only the process that started it","code":401}}'

Headers = Iterable[tuple[bytes, bytes]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


def admits(headers: Headers, key: str) -> bool:
    """Whether a request with these headers (names in lower case) has the key, and came by a name of loopback."""
    fields = dict(headers)
    authorization = fields.get(b"authorization", b"")
    return names_loopback(fields.get(b"host", b"")) and hmac.compare_digest(authorization, f"Bearer {key}".encode())


def names_loopback(host: bytes) -> bool:
    """Whether a Host header, with or without a port, names this machine's loopback.

    A browser that was lured to a foreign name which resolves to 127.0.0.1 sends that foreign name.
    """
    name, colon, port = host.rpartition(b":")
    name = name if colon and port.isdigit() else host
    return name in _LOOPBACK or _is_loopback_address(name)


def _is_loopback_address(name: bytes) -> bool:
    try:
        return ipaddress.ip_address(name.decode("ascii").strip("[]")).is_loopback
    except ValueError:
        return False


class Gate:
    """Pure ASGI middleware around vLLM's application, in the engine's own processes.

    Raises:
        RuntimeError: the environment holds no key; an engine without one must not start.
    """

    def __init__(self, app: _App) -> None:
        self._app, self._key = app, os.environ.get(KEY, "")
        if not self._key:
            raise RuntimeError(f"{KEY} is not set: an engine does not start without a key")

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan" or admits(scope["headers"], self._key):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            content_type = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": content_type})
            await send({"type": "http.response.body", "body": _REFUSAL})
