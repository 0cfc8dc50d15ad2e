"""The address of somebody else's endpoint as people write it: with or without /v1, a path, a query, a user. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from optimize.errors import ConfigError
from optimize.redaction import login_of, redacted, without_credentials

_PARTS_OF_THE_API = ("/chat/completions", "/completions", "/models")
_VERSIONED = re.compile(r"/v\d+(beta|alpha)?\d*(/|$)|/openai/deployments/")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is.

    Attributes:
        base_url: Scheme, host, port and path, without a trailing slash, user and query.
        api_path: Path of the API below it: "/v1", or empty where the path says which version it is of.
        query: What every address ends in, without its question mark.
        login: "user:password"; None without.
    """

    base_url: str
    api_path: str
    query: str
    login: str | None


def address_of(url: str) -> Address:
    """Read an address as clients of OpenAI's take it (with /v1) or as a server has it (without).

    A path that names a version of its own, or a deployment of Azure's, is taken for the API's; below any other path the
    API is at /v1.

    Raises:
        ConfigError: it is no address of a server.
    """
    parts = _split(without_credentials(url.strip()), url)
    path = parts.path.rstrip("/")
    for part in _PARTS_OF_THE_API:
        path = path.removesuffix(part)
    below = "/v1" if path.endswith("/v1") or not _VERSIONED.search(path) else ""
    base = f"{parts.scheme}://{parts.netloc}{path.removesuffix('/v1') if below else path}"
    return Address(base.rstrip("/"), below, parts.query, login_of(url.strip()))


def _split(bare: str, url: str) -> SplitResult:
    """The parts of an address without credentials; `url` is the whole of it, for messages."""
    try:
        parts = urlsplit(bare)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in bare):
        remedy = "" if "://" in bare else f", e.g. http://{bare or 'host:8000'}"
        raise ConfigError(
            f"engine.base_url must be an address http://host:port or https://host, got {redacted(url)!r}{remedy}"
        )
    return parts
