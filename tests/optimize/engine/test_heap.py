"""A count of the heap that ended early is an error, and not a lower figure."""

from __future__ import annotations

import time

import pytest

from optimize.engine.heap import HeapWatch


def test_the_largest_drop_is_transient_memory() -> None:
    counts = iter([10, 60, 20])
    watch = HeapWatch(lambda: next(counts, 20))
    deadline = time.monotonic() + 30
    while watch.samples < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.end()
    assert watch.transient_bytes == 40


def test_a_count_that_fails_is_reported_to_whoever_asks_for_the_figure() -> None:
    def fail() -> int:
        raise OSError("no such function")

    watch, deadline = HeapWatch(fail), time.monotonic() + 30
    while watch._error is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match="the heap was not counted to the end: OSError"):
        _ = watch.transient_bytes
