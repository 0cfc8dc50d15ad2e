"""The grid that a live engine's capacity is compared with."""

from __future__ import annotations

import pytest

from benchmarks.capacity_live import levels


def test_users_of_a_grid_are_whole_and_differ() -> None:
    assert levels(10, 5, whole=False).tolist() == pytest.approx([6.0, 8.0, 10.0, 12.0, 14.0])
    assert levels(3, 10, whole=True).tolist() == [2.0, 3.0, 4.0]
