"""The environment's proxies: which address is asked by way of one, and which never is.

Every request of this project decides here, so that the check of an endpoint and the load on it take the same way, and
no request to this machine, which may carry an engine's key, reaches a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from optimize.errors import ConfigError
from optimize.redaction import redacted

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SUPPORTED = ("http", "https")


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address; None where it is asked directly.

    Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small or capital letters, as
    `urllib.request.getproxies_environment` does. `no_proxy` may hold networks, e.g. 10.0.0.0/8.

    Args:
        url: An address with its scheme.

    Raises:
        ConfigError: the environment names a SOCKS proxy, which no client of this project can use.
    """
    parts, proxies = urlsplit(url), getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(parts.hostname or "") or _exempt(parts.netloc.rpartition("@")[2], proxies):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in _SUPPORTED:
        raise ConfigError(
            f"the environment names the proxy {redacted(proxy)} for {redacted(url)}, and proxies can be HTTP only: set "
            f"{parts.scheme}_proxy to an HTTP proxy, or add {parts.hostname} to no_proxy"
        )
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in an address, is this machine by definition."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _exempt(netloc: str, proxies: Mapping[str, str]) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    by_name = any(proxy_bypass(name, dict(proxies)) for name in (host, netloc))
    return by_name or any(_contains(entry.strip(), host) for entry in proxies.get("no", "").split(","))


def _contains(network: str, host: str) -> bool:
    try:
        return "/" in network and ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def with_direct_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no library asks this machine by way of a proxy; unchanged where it names none.

    Other libraries (MLflow's client, Ray, what vLLM loads) read the variables themselves.
    """
    if not any(name.lower().endswith("_proxy") and value for name, value in env.items()):
        return dict(env)
    return {**env, **{name: _extended(env.get(name) or env.get(other, "")) for name, other in _NO_PROXY}}


_NO_PROXY = (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy"))


def _extended(exempt: str) -> str:
    entries = [entry.strip() for entry in exempt.split(",") if entry.strip()]
    if entries == ["*"]:
        return "*"
    return ",".join(dict.fromkeys([*entries, *_LOOPBACK]))
