"""Reports of supervision, which go on where nobody can hear them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Reporter:
    """Says lines, or logs them where they cannot be said: a closed terminal or a full disk ends no supervision.

    Args:
        say: Receives each line; it may raise.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def report(self, line: str) -> None:
        try:
            self._say(line)
        except Exception:
            with contextlib.suppress(Exception):
                _log.warning("%s", line)

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Do what supervision can go on without; a failure is reported."""
        try:
            action()
        except Exception as error:
            self.report(f"{what} failed: {type(error).__name__}: {error}")


def say(line: str) -> None:
    """Print a line where that is possible: a closed terminal or a full disk must not end a server, or its draining."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter's own flush fails at its end
    except (OSError, ValueError):
        return
