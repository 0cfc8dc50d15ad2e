"""HTTP responses of the front's own, and the headers it passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

_HOP_BY_HOP = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})


def end_to_end_headers(headers: Mapping[str, str], *excluded: str) -> dict[str, str]:
    """Headers meant for the other end, without those of the connection itself and without those `excluded`."""
    return {k: v for k, v in headers.items() if k.lower() not in _HOP_BY_HOP and k.lower() not in excluded}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error in the format of OpenAI's API, which vLLM uses too."""
    kind = "BadRequestError" if status < 500 else "ServiceUnavailableError"
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def refusal(status: int, message: str, param: str | None = None, retry_after_s: int | None = None) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.json_response(error_body(status, message, param), status=status, headers=headers)
