"""The certificates that are trusted: of the system, of certifi, of the environment, and of a file of the user's own.

Every client of this project takes them from here, so that the check of an endpoint and the load on it trust the same.
"""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

import httpx

from optimize.errors import ConfigError, one_line


@cache
def trusted(ca_file: str | None = None) -> ssl.SSLContext:
    """A context that trusts what the system and certifi do; in the place of both, SSL_CERT_FILE or SSL_CERT_DIR.

    It is kept: loading certificates takes longer than a request.

    Args:
        ca_file: A file of certificates (PEM) that are trusted as well.

    Raises:
        ConfigError: the file is none.
    """
    context = httpx.create_ssl_context()  # certifi's, or the environment's
    context.load_default_certs()  # the system's, or the environment's
    if ca_file is not None:
        try:
            context.load_verify_locations(Path(ca_file).expanduser())
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"engine.ca_file={ca_file} holds no certificates ({one_line(error)}): name a PEM file"
            ) from error
    return context
