"""What a server's refusal of a request means: its class, when to ask again, and whom to tell what about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Protocol

from objectives import RequestRecord
from optimize.errors import ConfigError, EngineFailure, FailureKind, OptimizeError, TransientFault, one_line

THROTTLED, UNAUTHORIZED = "throttled", "unauthorized"
_TOO_MANY, _UNAVAILABLE, _DENIED = 429, 503, (401, 403)
_PATIENCE_S = 1.0
_OWN_FIELDS = ("stream_options", "temperature", "ignore_eos")
"""Fields of our requests that not every server knows."""


class Response(Protocol):
    """The head of a response."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


def error_of(response: Response) -> str:
    """The class of a response that is no answer; see `RequestRecord.error`."""
    if _throttles(response):
        return THROTTLED
    if response.status in _DENIED:
        return UNAUTHORIZED
    return "refused" if response.status < 500 else "server"


def retry_after_s(response: Response) -> float | None:
    """Seconds after which a server that throttles wants to be asked again; None where it does not throttle.

    `retry-after-ms` is OpenAI's and Azure's; `Retry-After` holds seconds or a date (RFC 9110, section 10.2.3).
    """
    if not _throttles(response):
        return None
    milliseconds, text = (response.headers.get(name, "") for name in ("retry-after-ms", "Retry-After"))
    try:
        return max(0.0, float(milliseconds) / 1000 if milliseconds else float(text))
    except ValueError:
        return _until(text)


def _until(date: str) -> float:
    """Seconds until a date; a moment where there is none."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return _PATIENCE_S


def _throttles(response: Response) -> bool:
    """Whether a server says that it is asked for too much at once, rather than that something is wrong."""
    return response.status == _TOO_MANY or (response.status == _UNAVAILABLE and "Retry-After" in response.headers)


def fault_of(records: Sequence[RequestRecord]) -> OptimizeError | None:
    """The error that failed requests amount to where it is not the configuration's; None for all others.

    Args:
        records: Requests that ended, without an answer among those that matter.
    """
    failed = [record for record in records if record.error is not None]
    if failed and failed[-1].error == UNAUTHORIZED:
        return ConfigError(
            f"the endpoint accepts the address but not the key of the requests ({_cause(failed[-1])}): check the "
            "key, its rights to this model, and the header that carries it (engine.key_header_name, engine.headers)"
        )
    throttled = sum(record.error == THROTTLED for record in failed)
    if 2 * throttled > len(failed):
        return TransientFault(
            f"the endpoint throttles: it turned {throttled} of {len(records)} requests away "
            f"({_cause(failed[-1])}); ask for less at once (load.arrivals), have the limit raised, or wait as long "
            "as it says (load.honour_retry_after=true)"
        )
    return None


def refusal(record: RequestRecord) -> EngineFailure:
    """The failure of an engine that does not take such requests."""
    field = next((name for name in _OWN_FIELDS if name in record.text), None)
    hint = (
        f"; 'engine.request={{{field}: null}}' leaves that field out of the requests to engine=remote" if field else ""
    )
    return EngineFailure(FailureKind.REFUSED, f"the engine refuses such requests: {record.text[:300]}{hint}")


def _cause(record: RequestRecord) -> str:
    return one_line(ValueError(record.text), 200)
