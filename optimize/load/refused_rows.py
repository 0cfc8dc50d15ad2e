"""Rows that an endpoint of somebody else's refuses for their length: its tokenizer and context are not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import httpx

from optimize.config.measuring import LEAVE_OUT, WorkloadSource
from optimize.engine.base import Endpoint, RequestConfig
from optimize.engine.http_client import client_of
from optimize.errors import ConfigError
from optimize.load.request_body import request_body
from optimize.workload.room import FEW
from optimize.workload.workload import Workload

_REFUSED, _ENOUGH, _TIMEOUT_S, _SHOWN = (400, 413, 422), 2, 60.0, 160


def without_refused(
    workload: Workload, endpoint: Endpoint, source: WorkloadSource
) -> tuple[Workload, list[int] | None]:
    """The workload without the rows that are too long for an endpoint, and the rows that are left.

    The longest are sent, each with the bound of its answer, until two are taken; the connection is closed with the
    first byte of an answer. Where the shortest is refused, too, length is not the reason, and nothing is left out.

    Returns:
        The workload, and the rows of it that are left; None where none is left out.

    Raises:
        ConfigError: more rows are refused than are left out without being asked.
    """
    rows = sorted(range(len(workload.prompts)), key=lambda row: _size(workload, row))
    with client_of(endpoint, _TIMEOUT_S) as http:
        refused = _refused(http, endpoint, workload, rows[::-1], source)
        if not refused or len(refused) == len(rows) or _refusal(http, endpoint, workload, rows[0]) is not None:
            return workload, None
    served = sorted(set(rows) - set(refused))
    named = ", ".join(f"row {row}" for row in sorted(refused)[:5]) + (", ..." if len(refused) > 5 else "")
    note = (
        f"workload {workload.name}: the endpoint refuses {len(refused)} of {len(rows)} rows for their length, which "
        f"are left out: {named} ({next(iter(refused.values()))})"
    )
    return replace(workload.only(served), notes=[*workload.notes, note]), served


def _refused(
    http: httpx.Client, endpoint: Endpoint, workload: Workload, rows: Sequence[int], source: WorkloadSource
) -> dict[int, str]:
    """Row -> what the endpoint says of it, of those that it refuses; the longest come first."""
    refused, taken = dict[int, str](), 0
    for row in rows:
        refusal = _refusal(http, endpoint, workload, row)
        if refusal is None:
            taken += 1
        else:
            refused[row] = refusal
        if taken == _ENOUGH:
            return refused
        if source.too_long != LEAVE_OUT and len(refused) > max(1.0, FEW * len(rows)):
            if _refusal(http, endpoint, workload, rows[-1]) is not None:
                return {}  # whatever their length
            raise ConfigError(
                f"workload {workload.name}: the endpoint refuses more than {FEW:.0%} of its {len(rows)} rows for their "
                f"length ({refusal}): give shorter prompts or workload.max_tokens, or leave out what is refused, "
                "workload.too_long=leave_out"
            )
    return refused


def _size(workload: Workload, row: int) -> int:
    return len(str(workload.prompts[row])) + workload.bound(row)


def _refusal(http: httpx.Client, endpoint: Endpoint, workload: Workload, row: int) -> str | None:
    """What the endpoint says where it refuses a row; None where it takes it, or says nothing of the request."""
    prompt, fields = workload.prompts[row], workload.fields[row] if workload.fields else {}
    chat = not isinstance(prompt, str)
    body = request_body(endpoint, RequestConfig(), workload.bound(row))
    url = endpoint.path("/chat/completions" if chat else "/completions")
    try:
        with http.stream("POST", url, json={**body, **fields, "messages" if chat else "prompt": prompt}) as answer:
            if answer.status_code not in _REFUSED:
                return None
            return " ".join(answer.read().decode(errors="replace").split())[:_SHOWN]
    except (httpx.HTTPError, ValueError):
        return None
