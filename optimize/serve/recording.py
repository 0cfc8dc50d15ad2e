"""What an engine answered to one request, and when."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_BODY_MAX = 1 << 18
_SLOW_CLIENT = 0.1


@dataclass
class Recording:
    """Times and content of an answer, taken as its pieces pass.

    Attributes:
        clock: Seconds.
        began_s: When the request was sent, or first began to wait for its engine.
        status: HTTP status; 0 before the answer begins.
        first_s: Seconds until the first piece.
        whole_s: Seconds until the end; None while it is not complete.
        attempts: Engines that were asked, as whoever asks them counts.
        waited: Whether there was no engine when it came.
        body: The answer.
        fits: Whether `body` holds all of it; a very long one is not kept.
    """

    clock: Callable[[], float] = time.perf_counter
    began_s: float = field(init=False)
    status: int = 0
    first_s: float | None = None
    whole_s: float | None = None
    attempts: int = 0
    waited: bool = False
    body: bytearray = field(default_factory=bytearray)
    fits: bool = True
    _held_s: float = 0.0

    def __post_init__(self) -> None:
        self.began_s = self.clock()

    async def passing(
        self, status: int, pieces: AsyncIterator[bytes], goes_on: bool = False
    ) -> AsyncIterator[bytes]:  # fmt: skip
        """The pieces of an answer, or of the rest of one that another engine `goes_on` with, recorded as they pass."""
        if not goes_on:
            self.status, self.first_s, self._held_s = status, None, 0.0
            self.body.clear()
        async for piece in pieces:
            arrived_s = self.clock()
            self._keep(piece, arrived_s - self.began_s)
            yield piece
            self._held_s += self.clock() - arrived_s
        self.whole_s = self.clock() - self.began_s

    def _keep(self, piece: bytes, after_s: float) -> None:
        self.first_s = after_s if self.first_s is None else self.first_s
        self.fits = self.fits and len(self.body) + len(piece) <= _BODY_MAX
        if self.fits:
            self.body += piece

    @property
    def ok(self) -> bool:
        """Whether it is complete, and no error."""
        return self.whole_s is not None and 0 < self.status < 400

    @property
    def timely(self) -> bool:
        """Whether its times are the engine's: it was asked once, at once, and the client took the answer as it came."""
        whole_s = self.whole_s or 0.0
        return self.attempts == 1 and not self.waited and self._held_s <= _SLOW_CLIENT * whole_s
