"""What can be known to be wrong with the settings of `serve`, before any engine starts."""

from __future__ import annotations

import ipaddress
import os

from optimize.config.serve import Serve
from optimize.errors import ConfigError, closest

BEAMS_OVER = ("refuse", "clamp")
_POSITIVE = ("probe_s", "probe_timeout_s", "probe_failures", "unanswered_max_s", "backoff_max_s")
_NOT_NEGATIVE = ("backoff_first_s", "healthy_s", "wait_s", "retries", "drain_s")


def check(settings: Serve) -> None:
    """Raise ConfigError for the first value that cannot be."""
    for name in _POSITIVE:
        if not getattr(settings, name) > 0:
            raise ConfigError(f"serve.{name} must be positive, got {getattr(settings, name):g}")
    for name in _NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            raise ConfigError(f"serve.{name} must not be negative, got {getattr(settings, name):g}")
    if settings.backoff_factor < 1:
        raise ConfigError(f"serve.backoff_factor must be at least 1, got {settings.backoff_factor:g}")
    if settings.beams_over not in BEAMS_OVER:
        hint = closest(settings.beams_over, BEAMS_OVER)
        raise ConfigError(f"serve.beams_over must be refuse or clamp, got {settings.beams_over!r}; {hint}")
    for name in ("beams_max", "beams_together"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigError(f"serve.{name} must be at least 1, or null, got {value}")
    if not 0 < settings.kv_low <= settings.kv_high <= 1:
        raise ConfigError(
            f"serve.kv_low and serve.kv_high are shares, the first not above the second, got {settings.kv_low:g} "
            f"and {settings.kv_high:g}"
        )


def api_key(settings: Serve) -> str | None:
    """The key that clients must send; None on loopback where none is set.

    Raises:
        ConfigError: others can reach the address, and there is no key.
    """
    key = os.environ.get(settings.api_key_env) or None
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
