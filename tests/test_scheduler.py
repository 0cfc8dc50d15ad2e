"""Tests of a file stay together, and live ones of all files do."""

from __future__ import annotations

import pytest

from tests.conftest import pytest_xdist_make_scheduler
from tests.scheduler import LiveTogether


def test_all_that_is_live_is_run_by_one_worker_and_any_other_file_by_one(pytestconfig: pytest.Config) -> None:
    scheduler = LiveTogether.__new__(LiveTogether)  # without the workers, of whom it asks the configuration
    tests = ["tests/live/test_a.py::test_1", "tests/live/test_b.py::test_2[x]", "tests/ui/test_c.py::test_3[a::b]"]
    assert [scheduler._split_scope(test) for test in tests] == ["tests/live/", "tests/live/", "tests/ui/test_c.py"]
    assert pytest_xdist_make_scheduler(pytestconfig, None) is None
