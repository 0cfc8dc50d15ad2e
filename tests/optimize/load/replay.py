"""A server that replays bytes: what comes over a connection, and when it ends, is the test's to say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from objectives import RequestRecord
from optimize.engine.base import Access, Endpoint, RequestConfig
from optimize.load.client import Client
from optimize.load.protocol import Bounds
from optimize.load.session import open_session
from optimize.workload.workload import Prompt

DONE = b'data: {"choices": [{"text": "a", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def response(
    body: bytes, content_type: str = "text/event-stream", status: str = "200 OK", headers: str = "",
    version: str = "HTTP/1.1",
) -> bytes:  # fmt: skip
    """A whole response of stated length."""
    head = f"{version} {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass
class Replay:
    """Answers the requests in the order in which they come.

    Attributes:
        script: What each request is answered with, the last one over and over; empty bytes end the connection instead.
        pieces: Cuts a response into what is sent at a time.
        ends: Whether the connection ends after each response.
        requests: (number of the connection, head, body) of every request.
    """

    script: Sequence[bytes]
    pieces: Callable[[bytes], Sequence[bytes]] = lambda raw: [raw]
    ends: bool = False
    requests: list[tuple[int, str, str]] = field(default_factory=list)
    _connections: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            while True:
                raw = await self._request(reader, number)
                for piece in self.pieces(raw):
                    writer.write(piece)
                    await asyncio.sleep(0)
                if self.ends or not raw:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, connection: int) -> bytes:
        """The response to the next request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length:")), 0)
        body = (await reader.readexactly(length)).decode()
        self.requests.append((connection, head, body))
        return self.script[min(len(self.requests), len(self.script)) - 1]


@asynccontextmanager
async def serving(replay: Replay, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address of a running server."""
    server = await asyncio.start_server(replay.connected, host, 0, ssl=tls)
    name = f"[{host}]" if ":" in host else host
    async with server:
        yield f"{'http' if tls is None else 'https'}://{name}:{server.sockets[0].getsockname()[1]}"


def answers(
    replay: Replay, prompts: Sequence[Prompt] = ("hello",), bounds: Bounds | None = None, access: Access | None = None,
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None,
) -> list[RequestRecord]:  # fmt: skip
    """The records of requests sent one after the other over one session."""

    async def exchange() -> list[RequestRecord]:
        async with serving(replay, host, tls) as address:
            endpoint = Endpoint(address, None, "m", access=access or Access())
            clock = asyncio.get_running_loop().time
            async with open_session(endpoint) as session:
                client = Client(session, endpoint, RequestConfig(), bounds or Bounds(8, 30.0), clock)
                return [await client.send(row, prompt, clock()) for row, prompt in enumerate(prompts)]

    return asyncio.run(exchange())
