"""Runs inside vLLM's worker: how much of the C library's heap came and went while somebody looked.

The kernel cannot tell. What is freed between pieces that stay in use remains with the process, so its pages show every
hole that was ever left: with INT8 on a CPU tens of megabytes that no forward pass needs, another amount in every
engine. The C library knows what is in use. A peak between two looks is missed, so the figure may be too low.
Imports nothing of the project: the worker process pays for it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

_LOOK_S = 0.02
_LOOKING_SHARE = 0.01  # of one core at most: counting takes longer the more pieces there are


class _Mallinfo2(ctypes.Structure):
    """As in <malloc.h> of the GNU C library 2.33 and later, mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


class HeapWatch:
    """Looks now and then at the bytes in use, from its making until it is ended.

    Attributes:
        came_and_went_bytes: The most that was in use at one time and not at a later one: what stays is no part of it.
    """

    def __init__(self, in_use: Callable[[], int]) -> None:
        self.came_and_went_bytes = 0
        self._in_use, self._ended = in_use, threading.Event()
        threading.Thread(target=self._look, name="heap watch", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _look(self) -> None:
        most, wait_s = 0, 0.0
        while not self._ended.wait(wait_s):
            began = time.monotonic()
            now = self._in_use()
            wait_s = max(_LOOK_S, (time.monotonic() - began) / _LOOKING_SHARE)
            most = max(most, now)
            self.came_and_went_bytes = max(self.came_and_went_bytes, most - now)


def heap_in_use() -> Callable[[], int] | None:
    """Counts the bytes that are allocated and not freed; None where the C library cannot tell."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo2.restype = _Mallinfo2

    def count() -> int:
        found = mallinfo2()
        return int(found.uordblks + found.hblkhd)

    return count
