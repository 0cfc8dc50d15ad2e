"""How workers are reached, wherever they run."""

from __future__ import annotations

from typing import Any, Protocol

from optimize.executor.worker import Message


class Transport(Protocol):
    """Starts workers, and exchanges messages with them."""

    def start(self, slot: int) -> None:
        """Begin to start the worker of a slot; its first message is Ready, Rejected or Lost."""

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        """Send a worker a request, which it answers with one message."""

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        """(slot, message) pairs since the last call; empty if none came in time."""

    def stop(self, slot: int) -> None:
        """End a worker and its engine, busy or not."""

    def close(self) -> None:
        """End all workers."""
