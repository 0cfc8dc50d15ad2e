"""HTTP responses of the front's own, and the headers it passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

# RFC 9110, section 7.6.1, and headers that the front's own server writes.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", "date", "server",
    }
)  # fmt: skip
_TO_ENGINE = frozenset({"accept", "x-request-id", "traceparent", "tracestate"})


class Refused(Exception):
    """A request that the front answers itself.

    Args:
        status: HTTP status.
        message: What is wrong, and the remedy.
        param: Name of the field that is wrong.
        retry_after_s: Seconds after which another try makes sense; None where it makes none.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.retry_after_s = status, message, param, retry_after_s

    def response(self) -> web.Response:
        return refusal(self.status, self.message, self.param, self.retry_after_s)


def headers_to_engine(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a client's headers that an engine needs. All others concern the front, or nobody."""
    return {k: v for k, v in headers.items() if k.lower() in _TO_ENGINE and v.isascii() and v.isprintable()}


def headers_to_client(headers: Mapping[str, str]) -> dict[str, str]:
    """An engine's headers without those of its own connection, among them those that `Connection` names."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return {k: v for k, v in headers.items() if k.lower() not in _HOP_BY_HOP | named}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error in the format of OpenAI's API, which vLLM uses too."""
    kind = "BadRequestError" if status < 500 else "ServiceUnavailableError"
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def refusal(status: int, message: str, param: str | None = None, retry_after_s: int | None = None) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.json_response(error_body(status, message, param), status=status, headers=headers)
