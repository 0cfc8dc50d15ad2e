"""SIGTERM and SIGHUP end a session as Ctrl-C does, and a study runs in one process at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from optimize.errors import ConfigError
from optimize.files import locked

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OUTPUTS = (1, 2)
"""File descriptors of standard output and standard error."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt within, as Ctrl-C does; under nohup SIGHUP is left ignored.

    Once a session is ending, further ones are ignored: raised in the midst of a lock that the first one is giving back,
    an exception leaves it in disorder. Only Ctrl-C, by which a person insists, is raised again.
    """
    terminals = [descriptor for descriptor in _OUTPUTS if os.isatty(descriptor)]
    ending = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if number == signal.SIGHUP:
            _silence(terminals)
        if not ending or number == signal.SIGINT:
            ending = True
            raise KeyboardInterrupt

    numbers = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _silence(terminals: list[int]) -> None:
    """Write no more to terminals that are gone: the error of a message must not keep results from being written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextmanager
def exclusive(folder: Path, study: str) -> Iterator[None]:
    """Lock a study's folder: two sessions on one machine would measure each other's load.

    Raises:
        ConfigError: another process runs the study, or another user's lock is in the way.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / "lock", wait=False))
        except TimeoutError:
            raise ConfigError(
                f"study {study!r} is running in another process: wait for it, or choose another study.name"
            ) from None
        yield
