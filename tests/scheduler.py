"""How xdist's workers share the tests of a run: by files, the longest first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadFileScheduling

LIVE = "tests/live/"
OWN_SERVERS = ("tests/live/test_bundle.py", "tests/live/test_serve.py")
"""Live tests that share no engine with others: they start servers of their own, as a user's command does."""
_STUDIES = {"simulated", "quick", "optimize", "optimize_process", "made_studies", "browser"}
"""Fixtures of tests that run studies, commands or a browser, which takes seconds."""
_SLOW_S, _STUDY_S = 30, 2
_MADE = {"made_studies"}
"""Fixture of all workers that one of them makes, and the others wait for."""
_PLACES = (
    _MADE,
    {"plain_engine"},  # one engine for all of these
    {"plain_answers"},
    set[str](),
    {"real_smoke", "cold_start"},  # under way while the tests before them run
)
"""Fixtures of tests in the order in which a scope runs them; tests without any of them come where none is named."""


class LiveTogether(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """One worker runs all tests of a file, which share what takes long to make, and one all that share live engines:
    these take turns, for vLLM takes every core.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """What one worker runs as a whole: the file of a test, or all that share live engines."""
    file = nodeid.partition("::")[0]
    return LIVE if file.startswith(LIVE) and file not in OWN_SERVERS else file


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Tests by scopes, the longest first: short ones fill up what is left to each worker in the end.

    Within a scope they come by `_PLACES`. Those that need `_MADE` come first in one of the scopes that begin first, and
    last in all others, whose workers would have nothing to do until the first has made it.
    """
    scopes: dict[str, list[pytest.Item]] = {}
    for item in items:
        scopes.setdefault(scope_of(item.nodeid), []).append(item)
    longest_first = sorted(scopes, key=lambda scope: (scope != LIVE, -_seconds(scopes[scope])))
    maker = next((scope for scope in longest_first if any(map(_needs_made, scopes[scope]))), None)
    return [item for scope in longest_first for item in _arranged(scopes[scope], scope == maker)]


def _arranged(items: Sequence[pytest.Item], makes: bool) -> list[pytest.Item]:
    """The tests of a scope, which makes the studies that all share or waits for them."""
    return sorted(items, key=lambda item: (_needs_made(item) and not makes, _place(item)))


def _seconds(items: Sequence[pytest.Item]) -> int:
    """About how long the tests of a scope take, by their marks and fixtures."""
    has_slow = any(mark.name in ("live", "slow") for item in items for mark in item.iter_markers())
    return _SLOW_S * has_slow + _STUDY_S * sum(bool(_STUDIES & _fixtures(item)) for item in items)


def _needs_made(item: pytest.Item) -> bool:
    return bool(_MADE & _fixtures(item))


def _place(item: pytest.Item) -> int:
    fixtures = _fixtures(item)
    places = [place for place, names in enumerate(_PLACES) if names & fixtures]
    return max(places, default=_PLACES.index(set()))


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))
