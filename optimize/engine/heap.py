"""Transient memory of the C library's heap in vLLM's worker: bytes that were allocated and freed again.

The kernel cannot count it. Memory that is freed between pieces still in use remains with the process, so the kernel's
count includes every hole in the heap: with INT8 on a CPU, tens of megabytes that no forward pass needs, and a different
amount in every engine. The C library counts what is in use. A peak between two samples is missed, so the figure may be
too low. Imports nothing of the project, because the worker process pays for it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

_SAMPLE_S = 0.02
_SAMPLING_SHARE = 0.01  # of one core at most: counting takes longer the more pieces there are


class _Mallinfo2(ctypes.Structure):
    """As in <malloc.h> of the GNU C library 2.33 and later, mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


class HeapWatch:
    """Samples the bytes in use in a thread, from its construction until `end`.

    Attributes:
        samples: Number of samples so far.
    """

    def __init__(self, in_use: Callable[[], int]) -> None:
        self.samples, self._drop = 0, 0
        self._error: Exception | None = None
        self._in_use, self._ended = in_use, threading.Event()
        threading.Thread(target=self._sample, name="heap watch", daemon=True).start()

    @property
    def transient_bytes(self) -> int:
        """Largest drop from one sample to a later one; memory that stays allocated is not part of it.

        Raises:
            RuntimeError: a sample failed, and with it all after it.
        """
        if self._error is not None:
            raise RuntimeError(f"the heap was not counted to the end: {self._error!r}") from self._error
        return self._drop

    def end(self) -> None:
        self._ended.set()

    def _sample(self) -> None:
        try:
            self._sample_until_ended()
        except Exception as error:
            self._error = error

    def _sample_until_ended(self) -> None:
        peak, wait_s = 0, 0.0
        while not self._ended.wait(wait_s):
            began = time.monotonic()
            in_use = self._in_use()
            wait_s = max(_SAMPLE_S, (time.monotonic() - began) / _SAMPLING_SHARE)
            peak = max(peak, in_use)
            self._drop = max(self._drop, peak - in_use)
            self.samples += 1


def heap_in_use() -> Callable[[], int] | None:
    """A function that counts the bytes in use; None where the C library has none."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo2.restype = _Mallinfo2

    def count() -> int:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)

    return count
