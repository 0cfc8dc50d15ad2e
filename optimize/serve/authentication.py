"""The API key of the front."""

from __future__ import annotations

import ipaddress

from optimize.config.serve import Serve
from optimize.engine.base import key_from
from optimize.errors import ConfigError


def api_key(settings: Serve) -> str | None:
    """The key that clients must send; None on loopback where none is set.

    Raises:
        ConfigError: others can reach the address, and there is no key; or the key cannot stand in a header.
    """
    key = key_from(settings.api_key_env)
    if key is None and not _is_loopback(settings.host):
        raise ConfigError(
            f"serve.host={settings.host} can be reached by others: set an API key in the environment variable "
            f"{settings.api_key_env}, or serve on 127.0.0.1"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
