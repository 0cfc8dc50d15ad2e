"""Pickled objects through a socket between processes of this project, never between machines."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

_HEADER = struct.Struct("!Q")
_CHUNK_BYTES = 1 << 20


class Channel:
    """The end that never waits to receive: it takes the messages that have arrived, and blocks only while sending.

    Args:
        sock: One end of a socket pair; owned by the channel from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = bytearray()

    def send(self, message: object) -> None:
        """Send a message; raises OSError once the other end is gone."""
        self._socket.sendall(framed(message))

    def receive(self) -> list[Any]:
        """Every message that has arrived in full.

        Raises:
            EOFError: the other end is gone, and all of its messages were received before.
        """
        closed = self._drain()
        messages = list(self._messages())
        if closed and not messages:
            raise EOFError("the other end of the channel is gone")
        return messages

    def close(self) -> None:
        self._socket.close()

    def _drain(self) -> bool:
        """Take all bytes that have arrived; returns whether the other end has closed the socket."""
        while True:
            try:
                data = self._socket.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            if not data:
                return True
            self._received += data

    def _messages(self) -> Any:
        while len(self._received) >= _HEADER.size:
            end = _HEADER.size + _HEADER.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message = pickle.loads(memoryview(self._received)[_HEADER.size : end])
            del self._received[:end]
            yield message


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message, for the end that runs an event loop.

    Raises:
        asyncio.IncompleteReadError: the other end is gone.
    """
    (size,) = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    return pickle.loads(await reader.readexactly(size))


def framed(message: object) -> bytes:
    """A message in the format of the socket."""
    raw = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(raw)) + raw
