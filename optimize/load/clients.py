"""The load generator's view of the clients: something that sends requests by a schedule and reports the answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from objectives import RequestRecord
from optimize.engine.base import Endpoint
from optimize.load.arrivals import Arrivals
from optimize.load.client_pool import LoadRequest


class OngoingLoad(Protocol):
    """A load under way; see `optimize.load.client_pool.LoadRun`."""

    @property
    def records(self) -> list[RequestRecord]:
        """Every request that has ended."""

    @property
    def unanswered(self) -> list[RequestRecord]:
        """Requests that were given up at the end of the load."""

    @property
    def began(self) -> float:
        """The clock at second 0."""

    @property
    def cpu(self) -> Sequence[Sequence[tuple[float, float]]]:
        """Per client process: (second of the load, processor seconds so far) of every report."""

    def clock(self) -> float:
        """Seconds since the load began."""

    def follow(self, arrivals: Arrivals, start_s: float | None = None) -> None:
        """Send by these arrivals from a second of the load on (now), in place of others."""

    def update(self) -> None:
        """Take in the latest reports."""

    def oldest_due_s(self) -> float:
        """Requests due before this second have all been answered, as far as is known."""


class Clients(Protocol):
    """Senders of loads; see `optimize.load.client_pool.ClientPool`."""

    @property
    def pids(self) -> list[int]: ...

    def begin(self) -> None: ...

    def grow(self, limit: int) -> bool: ...

    def loading(
        self, endpoint: Endpoint, request: LoadRequest, processes: int | None = None
    ) -> AbstractContextManager[OngoingLoad]: ...
