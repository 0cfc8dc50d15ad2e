"""The connections of a client, which tell whether a request went over a new one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import aiohttp

from optimize.engine.base import Endpoint
from optimize.engine.proxies import proxy_of

LostConnection = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
"""A connection that ended before anything of the response to a request arrived."""
connects: ContextVar[bool] = ContextVar("connects", default=False)
"""Whether the request that is being sent had a connection made; whoever sends it sets this to False before."""
_BUFFER_BYTES = 1 << 20


def open_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """A session without aiohttp's default limit of 100 connections, which would silently bound the load."""
    return aiohttp.ClientSession(
        headers=endpoint.headers,
        proxy=proxy_of(endpoint.base_url),
        connector=_Connector(limit=0, **_trust(endpoint)),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=_BUFFER_BYTES,
    )


class _Connector(aiohttp.TCPConnector):
    """Notes for each request that it makes a connection, which aiohttp's tracing would at 10 microseconds a request."""

    async def _create_connection(self, *arguments: Any, **named: Any) -> Any:
        connects.set(True)
        return await super()._create_connection(*arguments, **named)


def _trust(endpoint: Endpoint) -> dict[str, Any]:
    if not endpoint.base_url.startswith("https:"):
        return {}
    from optimize.engine.certificates import trusted  # it takes a while to import, and most engines are on loopback

    return {"ssl": trusted(endpoint.access.ca_file)}
