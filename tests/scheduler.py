"""How xdist's workers share the tests of a run: by files, the longest first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadFileScheduling

LIVE = "tests/live/"
_STUDIES = {"simulated", "quick", "optimize", "optimize_process", "made_studies", "browser"}
"""Fixtures of tests that run studies, commands or a browser, which takes seconds."""
_UNDER_WAY = {"real_smoke", "cold_start"}


class LiveTogether(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """One worker runs all tests of a file, which share what takes long to make, and one all that are live: engines take
    turns, for vLLM takes every core.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """What one worker runs as a whole: the file of a test, or all that is live."""
    return LIVE if nodeid.startswith(LIVE) else nodeid.partition("::")[0]


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Tests by scopes, the longest first: short ones fill up what is left to each worker in the end.

    Within a scope first what needs the made studies, which one worker makes while the others go on; last what needs a
    live study or a cold start, which are under way while the tests before them run.
    """
    lengths: dict[str, int] = {}
    for item in items:
        lengths[scope_of(item.nodeid)] = max(_length(item), lengths.get(scope_of(item.nodeid), 0))
    places = {scope: place for place, scope in enumerate(sorted(lengths, key=lambda scope: -lengths[scope]))}
    return sorted(items, key=lambda item: (places[scope_of(item.nodeid)], _place(item)))


def _length(item: pytest.Item) -> int:
    """3 for a live test, which may take a minute, 2 for a slow one, 1 for one of some seconds, 0 for any other."""
    marks = {mark.name for mark in item.iter_markers()}
    return 3 if "live" in marks else 2 if "slow" in marks else int(bool(_STUDIES & _fixtures(item)))


def _place(item: pytest.Item) -> int:
    fixtures = _fixtures(item)
    return 0 if "made_studies" in fixtures else 2 if fixtures & _UNDER_WAY else 1


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))
