"""The connections of a client, which say of a request whether it went over one that had been used before."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

from optimize.engine.base import Endpoint
from optimize.engine.proxies import proxy_of

LostConnection = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
"""A connection that ended before anything of the response to a request arrived."""
_BUFFER_BYTES = 1 << 20


@dataclass(slots=True)
class Attempt:
    """A request that is being sent.

    Attributes:
        reuses: Whether it goes over a connection that was kept from an earlier request.
    """

    reuses: bool = False


def open_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """A session without aiohttp's default limit of 100 connections, which would silently bound the load.

    Each request is given its `Attempt` as `trace_request_ctx`.
    """
    return aiohttp.ClientSession(
        headers=endpoint.headers,
        proxy=proxy_of(endpoint.base_url),
        connector=_connector(endpoint),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=_BUFFER_BYTES,
        trace_configs=[_reuse_of_connections()],
    )


def _connector(endpoint: Endpoint) -> aiohttp.TCPConnector:
    if not endpoint.base_url.startswith("https:"):
        return aiohttp.TCPConnector(limit=0)
    from optimize.engine.certificates import trusted  # it takes a while to import, and most engines are on loopback

    return aiohttp.TCPConnector(limit=0, ssl=trusted(endpoint.access.ca_file))


def _reuse_of_connections() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return trace


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.reuses = True
