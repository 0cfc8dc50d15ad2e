"""HTTP clients for engines and other servers, which ask this machine directly whatever the environment says."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.proxies import proxy_of


def client_of(endpoint: Endpoint, timeout_s: float) -> httpx.Client:
    """A client of an endpoint that sends its key.

    Args:
        endpoint: The address.
        timeout_s: Limit of each step of a request, in seconds.

    Raises:
        ConfigError: it would have to be asked by way of a SOCKS proxy.
    """
    return httpx.Client(
        base_url=endpoint.base_url, headers=endpoint.headers, timeout=timeout_s, **route_of(endpoint.base_url)
    )


def route_of(url: str) -> dict[str, Any]:
    """The arguments of httpx that decide which way an address is asked.

    Raises:
        ConfigError: by way of a SOCKS proxy.
    """
    return {"trust_env": False, "proxy": proxy_of(url), "verify": _certificates()}


@cache
def _certificates() -> ssl.SSLContext:
    """Trusted certificates, of SSL_CERT_FILE or SSL_CERT_DIR where set; loading them takes longer than a request."""
    return httpx.create_ssl_context()
