"""Secrets: what counts as one, what stands in its place, and their removal from every text that leaves.

A secret is registered by its value once, when the configuration is composed. From then on `redact` puts its name in the
place of the value: in streams (`redacted_streams`), in files (`optimize.files`), in what storage and tracking receive.
The run itself uses the value. Why it is done by value, and what is no secret: docs/decisions/030-secrets.md.
"""

from optimize.redaction.addresses import basic_authentication, credentials_in, login_of, without_credentials
from optimize.redaction.names import MASK, is_plain, is_secret_name, references, variable_of
from optimize.redaction.registry import (
    forgetting,
    hidden_flags,
    is_secret,
    masked,
    redact,
    redact_all,
    redacted,
    register,
    register_all,
    register_credentials,
    register_environment,
    register_variable,
    registered,
    reveal,
)
from optimize.redaction.streams import redacted_streams

__all__ = [
    "MASK", "basic_authentication", "credentials_in", "forgetting", "hidden_flags", "is_plain", "is_secret",
    "is_secret_name", "login_of", "masked", "redact", "redact_all", "redacted", "redacted_streams", "references",
    "register", "register_all", "register_credentials", "register_environment", "register_variable", "registered",
    "reveal", "variable_of", "without_credentials",
]  # fmt: skip
