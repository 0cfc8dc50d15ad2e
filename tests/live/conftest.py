"""Live tests start early what takes long, and none of them may leave an engine behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.engines import LiveEngines
from tests.scheduler import LIVE, scope_of

_STARTED_EARLY = {"live_vllm": "live_vllm", "smoke_command": "real_smoke", "cold_start": "cold_start"}
"""Fixture -> the fixture by which tests ask for it."""


@pytest.fixture(autouse=True)
def started_early(request: pytest.FixtureRequest) -> None:
    """Start what the tests that share live engines will ask for."""
    if scope_of(request.node.nodeid) != LIVE:
        return
    asked_for = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for fixture, name in _STARTED_EARLY.items():
        if name in asked_for:
            request.getfixturevalue(fixture)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, no engine lives but the one that is kept for the next."""
    yield
    if "live_engines" in request.fixturenames:
        engines: LiveEngines = request.getfixturevalue("live_engines")
        assert engines.strays() == []
