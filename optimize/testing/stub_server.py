"""A server that answers at once, or freezes on purpose, so that only the client is measured.

Usage: python -m optimize.testing.stub_server PORT [--tokens 8] [--token-s 0] [--freeze AFTER_S FOR_S]

Speaks as much of vLLM's completions API, streamed, as load generators need; GET /arrivals tells when its completions
were asked for (`time.monotonic()`, one clock for all processes), each once. One event loop on bare protocols: it takes
a small fraction of the time that its clients take per request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import cast

import uvloop

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: "
_STREAM = _OK + b"text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MODEL = "model"


class Answers:
    """What is answered, and when.

    Args:
        tokens: Words of every answer.
        token_s: Pause before each of them.
        freeze: None, or (seconds since the first completion was asked for, seconds): nothing is sent meanwhile.
    """

    def __init__(self, tokens: int, token_s: float, freeze: tuple[float, float] | None) -> None:
        self.tokens, self.token_s, self._freeze = tokens, token_s, freeze
        self._first: float | None = None
        self.arrivals: list[float] = []
        self.word = self._event(self._choice("word "))
        self.end = (
            self._event({**self._base(), "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
            + self._event({**self._base(), "choices": [], "usage": {
                "prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}})
            + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        )  # fmt: skip
        self.whole = _STREAM + self.word * tokens + self.end

    def _base(self) -> dict[str, object]:
        return {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": MODEL}

    def _choice(self, text: str) -> dict[str, object]:
        return {**self._base(), "choices": [{"index": 0, "text": text, "finish_reason": None}]}

    def _event(self, content: object) -> bytes:
        return _chunk(b"data: " + json.dumps(content).encode() + b"\n\n")

    def frozen_s(self) -> float:
        """Seconds until the freeze ends, 0 where there is none now."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        if self._freeze is None:
            return 0.0
        after, length = self._freeze
        return max(0.0, self._first + after + length - now) if now >= self._first + after else 0.0


class Connection(asyncio.Protocol):
    """One connection, requests one after the other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._received = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, which only behaves like it

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _content_length(head)
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"POST"):
            self._answers.arrivals.append(time.monotonic())
        if head.startswith(b"GET /arrivals"):
            self._json(self._answers.arrivals)
            self._answers.arrivals.clear()
        elif not head.startswith(b"POST"):
            listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "stub"}]}
            self._json(listed)
        elif self._answers.token_s == 0 and self._answers.frozen_s() == 0:
            self._transport.write(self._answers.whole)
        else:
            task = asyncio.get_running_loop().create_task(self._stream())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self._transport.write(_OK + b"application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def _stream(self) -> None:
        self._transport.write(_STREAM)
        for _ in range(self._answers.tokens):
            await asyncio.sleep(max(self._answers.token_s, self._answers.frozen_s()))
            self._transport.write(self._answers.word)
        self._transport.write(self._answers.end)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def serve(port: int, answers: Answers) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(answers), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--token-s", type=float, default=0.0)
    parser.add_argument("--freeze", type=float, nargs=2)
    options = parser.parse_args()
    freeze = None if options.freeze is None else (options.freeze[0], options.freeze[1])
    uvloop.run(serve(options.port, Answers(options.tokens, options.token_s, freeze)))


if __name__ == "__main__":
    main()
