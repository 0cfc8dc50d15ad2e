"""One request to an OpenAI-compatible server, streamed where possible, with a class for each way to fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from objectives import RequestRecord
from optimize.engine.base import Endpoint, RequestConfig
from optimize.engine.proxies import proxy_of

if TYPE_CHECKING:  # a client process needs none of what a workload is loaded with
    from optimize.workload.workload import Prompt

_MAX_LINE_BYTES = 1 << 20


@dataclass(slots=True)
class _Answer:
    text: str = ""
    first_token_s: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None


class Client:
    """Sends requests over one session, without a limit on connections.

    Args:
        session: Made by `open_session`.
        endpoint: The engine.
        request: Decoding settings of every request.
        max_tokens: Bound on every answer.
        clock: Seconds since the load began.
        timeout_s: Seconds after which a request counts as failed.
    """

    def __init__(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, request: RequestConfig, max_tokens: int,
        clock: Callable[[], float], timeout_s: float,
    ) -> None:  # fmt: skip
        self._session, self._clock, self._timeout_s = session, clock, timeout_s
        self._streams = request.beam_size == 1
        self._base_url, self._body = endpoint.base_url, request_body(endpoint.model, request, max_tokens)

    async def send(
        self, prompt_id: int, prompt: Prompt, due_s: float, length: int | None = None, limit: int | None = None
    ) -> RequestRecord:
        """Send one request now and record it; every failure becomes a record, none an exception.

        Args:
            prompt_id: Row of the workload.
            prompt: Its prompt.
            due_s: When it was due.
            length: Tokens that the answer runs to; None lets it end by itself.
            limit: Bound on this answer, where it is below that on every answer.
        """
        sent_s, answer = self._clock(), _Answer()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._exchange(prompt, self._bound(length, limit), answer)
        except TimeoutError:
            answer.error = "timeout"
        except (aiohttp.ClientError, ConnectionError):
            answer.error = "connection"
        except (ValueError, KeyError, IndexError, TypeError):
            answer.error = "malformed"
        return RequestRecord(
            prompt_id, due_s, sent_s, answer.first_token_s, self._clock(),
            answer.prompt_tokens, answer.output_tokens, answer.text, answer.error,
        )  # fmt: skip

    def _bound(self, length: int | None, limit: int | None) -> dict[str, Any]:
        """The fields of a request that bound its answer, where they differ from those of every answer."""
        if length is not None:
            return {"max_tokens": length, "ignore_eos": True}
        return {} if limit is None else {"max_tokens": min(limit, self._body["max_tokens"])}

    async def _exchange(self, prompt: Prompt, bound: dict[str, Any], answer: _Answer) -> None:
        chat = not isinstance(prompt, str)
        path = "/v1/chat/completions" if chat else "/v1/completions"
        body = {**self._body, **bound, "messages" if chat else "prompt": prompt}
        async with self._session.post(f"{self._base_url}{path}", json=body) as response:
            if response.status != 200:
                answer.error = "refused" if response.status < 500 else "server"
                answer.text = (await response.text())[:500]
            elif self._streams:
                await self._read_stream(response, answer)
            else:
                whole = await response.json()
                answer.text = _text_of(whole["choices"][0])
                _count(whole["usage"], answer)
                # The usage is the sum over all beams; the user gets one answer.
                answer.output_tokens = round(answer.output_tokens / len(whole["choices"]))

    async def _read_stream(self, response: aiohttp.ClientResponse, answer: _Answer) -> None:
        pieces: list[str] = []
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                answer.text = "".join(pieces)
                return
            chunk = json.loads(line[6:])
            if "error" in chunk:
                answer.error = "server"
                return
            if chunk["choices"]:
                pieces.append(_text_of(chunk["choices"][0]))
                if answer.first_token_s is None and pieces[-1]:
                    answer.first_token_s = self._clock()
            elif chunk.get("usage"):
                _count(chunk["usage"], answer)
        answer.error = "malformed"  # the stream broke off without its end mark


def open_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """A session without aiohttp's default limit of 100 connections, which would silently bound the load."""
    return aiohttp.ClientSession(
        headers=endpoint.headers,
        proxy=proxy_of(endpoint.base_url),
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=_MAX_LINE_BYTES,
    )


def request_body(model: str, request: RequestConfig, max_tokens: int) -> dict[str, Any]:
    """The fields of a request except the prompt. Greedy by default; beam search cannot stream."""
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "temperature": 0.0}
    if request.beam_size > 1:
        body |= {"use_beam_search": True, "n": request.beam_size}
    else:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | dict(request.fields)


def _text_of(choice: dict[str, Any]) -> str:
    for part in ("delta", "message"):
        if part in choice:
            return str(choice[part].get("content") or "")
    return str(choice["text"])


def _count(usage: dict[str, Any], answer: _Answer) -> None:
    answer.prompt_tokens, answer.output_tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
