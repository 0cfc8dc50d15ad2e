"""How xdist's workers share the tests of a run by files."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

LIVE = "tests/live/"


class LiveTogether(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """One worker runs all tests of a file, which share what takes long to make, and one all that are live: engines take
    turns, for vLLM takes every core.
    """

    def _split_scope(self, nodeid: str) -> str:
        return LIVE if nodeid.startswith(LIVE) else str(super()._split_scope(nodeid))
