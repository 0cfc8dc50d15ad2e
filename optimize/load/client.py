"""One request to an OpenAI-compatible server, streamed where possible, with a class for each way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp

from objectives import RequestRecord
from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.answer import Answer
from optimize.load.event_stream import EventStream
from optimize.load.protocol import Bounds
from optimize.load.refusals import error_of, retry_after_s
from optimize.load.request_body import LIMIT, NEW_LIMIT, request_body
from optimize.load.session import LostConnection, connects

if TYPE_CHECKING:  # a client process needs none of what a workload is loaded with
    from optimize.workload.workload import Prompt

_TAIL_S = 0.5
_EXCERPT = 300


class Client:
    """Sends requests over one session, without a limit on connections.

    Args:
        session: Made by `optimize.load.session.open_session`.
        endpoint: The engine.
        request: Decoding settings of every request.
        bounds: What bounds every request.
        clock: Seconds since the load began.
    """

    def __init__(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, request: RequestConfig, bounds: Bounds,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._session, self._clock, self._bounds = session, clock, bounds
        self._body = request_body(endpoint, request, bounds.max_tokens)
        self._limit = NEW_LIMIT if NEW_LIMIT in self._body else LIMIT
        self._chat, self._completions = endpoint.url("/chat/completions"), endpoint.url("/completions")
        self._model_of = endpoint.model_of

    async def send(
        self, prompt_id: int, prompt: Prompt, due_s: float, length: int | None = None, limit: int | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> RequestRecord:  # fmt: skip
        """Send one request now and record it; every failure becomes a record, none an exception.

        Args:
            prompt_id: Row of the workload.
            prompt: Its prompt.
            due_s: When it was due.
            length: Tokens that the answer runs to; None lets it end by itself.
            limit: Bound on this answer, where it is below that on every answer.
            fields: Further fields of this request's body.
        """
        sent_s, answer = self._clock(), Answer()
        chat = not isinstance(prompt, str)
        own = {"model": self._model_of(prompt_id), **(fields or {}), **self._bound(length, limit)}
        body = {**self._body, **own, "messages" if chat else "prompt": prompt}
        try:
            async with asyncio.timeout(self._bounds.timeout_s):
                while True:
                    answer = await self._answer(self._chat if chat else self._completions, body)
                    if answer.retry_s is None or not self._bounds.honours_retry_after:
                        break
                    await asyncio.sleep(answer.retry_s)
        except TimeoutError:
            if answer.error is None:
                answer.fail("timeout", "")
        return RequestRecord(
            prompt_id, due_s, sent_s, answer.first_token_s, self._clock() if answer.done_s is None else answer.done_s,
            answer.prompt_tokens, answer.output_tokens, answer.text, answer.error, answer.first_answer_s,
            cached_tokens=answer.cached_tokens,
        )  # fmt: skip

    def _bound(self, length: int | None, limit: int | None) -> dict[str, Any]:
        """The fields of a request that bound its answer, where they differ from those of every answer."""
        if length is not None:
            return {self._limit: length, "ignore_eos": True}
        return {} if limit is None else {self._limit: min(limit, self._bounds.max_tokens)}

    async def _answer(self, url: str, body: dict[str, Any]) -> Answer:
        """The answer to a request, whatever becomes of it."""
        answer = Answer()
        try:
            await self._exchange(url, body, answer)
        except (aiohttp.ClientError, ConnectionError) as error:
            answer.fail("connection", str(error) or type(error).__name__)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            answer.fail("malformed", str(error))
        return answer

    async def _exchange(self, url: str, body: dict[str, Any], answer: Answer) -> None:
        async with await self._post(url, body) as response:
            if response.status != 200:
                answer.fail(error_of(response), await _text_of(response))
                answer.retry_s = retry_after_s(response)
            elif response.content_type == "application/json":
                answer.take_whole(await response.json())
                answer.end(self._clock(), marked=False)
            else:
                await self._read_stream(response.content, answer)

    async def _post(self, url: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        """The response to a request, of which the head has arrived.

        A server may close a connection that has been idle just as the next request comes; that is nobody's failure,
        and nothing was answered: the request is sent again, on another connection. Source: RFC 9112, section 9.3.1.
        """
        while True:
            connects.set(False)
            try:
                return await self._session.post(url, json=body, allow_redirects=False)
            except LostConnection:
                if connects.get():
                    raise

    async def _read_stream(self, content: aiohttp.StreamReader, answer: Answer) -> None:
        stream, begin = EventStream(), b""
        while not stream.ended and answer.error is None:
            data = await content.readany()
            now = self._clock()
            begin = begin or data[:_EXCERPT]
            for document in stream.feed(data) if data else stream.close():
                answer.take(document, now)
            if not data:
                break
        answer.end(now, stream.ended)
        if answer.error == "malformed":
            answer.reason = f"{answer.reason}: {begin.decode(errors='replace')}"
        await _drain(content)


async def _drain(content: aiohttp.StreamReader) -> None:
    """Take what follows the end mark, so that the connection serves the next request; a server must not hold us up."""
    if not content.is_eof():
        try:
            async with asyncio.timeout(_TAIL_S):
                while await content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            pass


async def _text_of(response: aiohttp.ClientResponse) -> str:
    """What a response says that is no answer."""
    if 300 <= response.status < 400:
        return f"HTTP {response.status}: moved to {response.headers.get('Location')}"
    return await response.text(errors="replace") or f"HTTP {response.status} {response.reason or ''}".rstrip()
