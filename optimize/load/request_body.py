"""The fields of a request except the prompt; apart from the client, whose HTTP library only its own process loads."""

from __future__ import annotations

from typing import Any

from optimize.engine.base import Endpoint, RequestConfig

LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"


def request_body(endpoint: Endpoint, request: RequestConfig, max_tokens: int) -> dict[str, Any]:
    """The fields of a request except the prompt. Greedy by default; beam search cannot stream.

    Where the endpoint has a field `max_completion_tokens`, as OpenAI's thinking models do, the bound takes that name.
    """
    body: dict[str, Any] = {"model": endpoint.model, LIMIT: max_tokens, "temperature": 0.0}
    if request.beam_size > 1:
        body |= {"use_beam_search": True, "n": request.beam_size}
    else:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    own = dict(endpoint.access.fields)
    if own.get(NEW_LIMIT) is not None:
        own |= {LIMIT: None, NEW_LIMIT: max_tokens}
    body |= own
    return {name: value for name, value in body.items() if name not in own or value is not None} | dict(request.fields)
