"""HTTP clients for engines and other servers, which ask this machine directly whatever the environment says."""

from __future__ import annotations

from typing import Any

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.certificates import trusted
from optimize.engine.proxies import proxy_of


def client_of(endpoint: Endpoint, timeout_s: float) -> httpx.Client:
    """A client of an endpoint that sends its key.

    Args:
        endpoint: The address.
        timeout_s: Limit of each step of a request, in seconds.

    Raises:
        ConfigError: it would have to be asked by way of a SOCKS proxy, or its certificates cannot be read.
    """
    access = endpoint.access
    return httpx.Client(
        base_url=endpoint.base_url, headers=endpoint.headers, timeout=timeout_s, params=access.query or None,
        **route_of(endpoint.base_url, access.ca_file),
    )  # fmt: skip


def route_of(url: str, ca_file: str | None = None) -> dict[str, Any]:
    """The arguments of httpx that decide which way an address is asked, and whom to trust there.

    Raises:
        ConfigError: by way of a SOCKS proxy, or certificates that cannot be read.
    """
    return {"trust_env": False, "proxy": proxy_of(url), "verify": trusted(ca_file)}
