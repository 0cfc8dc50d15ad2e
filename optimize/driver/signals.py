"""Signals and locks of a session: SIGTERM ends it as Ctrl-C does, and a study runs in one process at a time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from optimize.errors import ConfigError


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt within, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def exclusive(folder: Path, study: str) -> Iterator[None]:
    """Lock a study's folder: two sessions on one machine would measure each other's load.

    Raises:
        ConfigError: another process runs the study.
    """
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"study {study!r} is running in another process: wait for it, or choose another study.name"
        ) from None
    try:
        yield
    finally:
        lock.release()
