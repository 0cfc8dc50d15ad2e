"""What the front says of its own in HTTP, and which headers it passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

_NOT_PASSED_ON = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}
)  # fmt: skip


def passed(headers: Mapping[str, str], *but: str) -> dict[str, str]:
    """Headers that concern both ends, not the connection between two of them."""
    return {k: v for k, v in headers.items() if k.lower() not in _NOT_PASSED_ON and k.lower() not in but}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's API words it, and vLLM's."""
    kind = "BadRequestError" if status < 500 else "ServiceUnavailableError"
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def refusal(status: int, message: str, param: str | None = None, retry_after_s: int | None = None) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.json_response(error_body(status, message, param), status=status, headers=headers)
