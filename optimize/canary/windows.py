"""Which requests are mirrored, so that both engines carry the same load while they are compared. Pure.

A candidate that gets a tenth of the requests, drawn at random, has a tenth of the load, answers faster than it would in
service and looks better than it is. So a share of the *time* is mirrored instead, and in it every request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """How a request takes part.

    Attributes:
        mirrored: Whether the candidate gets it too.
        counted: Whether the two answers are compared.
    """

    mirrored: bool
    counted: bool


_OUTSIDE = Place(False, False)
_FILLING_MAX = 30
"""A window is given up where requests that are not mirrored keep the serving engine busy for so many of its lengths."""


class Windows:
    """Opens windows in which every request is mirrored, as often as the share of the time allows.

    A pair counts if it begins while the serving engine is busy with mirrored requests alone. A window of such requests
    is followed by mirrored requests that do not count, until all pairs of the window are complete: they share the
    engines with the same load up to their end.

    Args:
        share: Share of the time, above 0; with 1 everything is mirrored and counted.
        window_s: Seconds in which pairs begin to count.
        clock: Seconds.
    """

    def __init__(self, share: float, window_s: float, clock: Callable[[], float]) -> None:
        self._share, self._window_s, self._clock = share, window_s, clock
        self._opens = math.inf
        self._opened: float | None = None
        self._counts_from: float | None = None
        self._alone, self._counted = 0, 0

    def begin(self) -> None:
        """Open the first window."""
        self._opens = self._clock()

    def enter(self, possible: bool) -> Place:
        """The place of a request that arrives now; `leave` ends it.

        Args:
            possible: Whether it can be mirrored at all.
        """
        self._advance()
        if not possible or self._opened is None:
            self._alone += 1
            return _OUTSIDE
        counted = self._counts_from is not None and self._in_window() and not self._alone
        self._counted += counted
        return Place(True, counted)

    def leave(self, place: Place) -> None:
        """End a request: one that is not mirrored once it is answered, a mirrored one once both engines have."""
        self._alone -= not place.mirrored
        self._counted -= place.counted
        self._advance()

    def _advance(self) -> None:
        now = self._clock()
        if self._opened is None and now >= self._opens:
            self._opened = now
        if self._opened is not None and self._counts_from is None and not self._alone:
            self._counts_from = now
        if self._opened is not None and self._ended():
            self._opens = now + (now - self._opened) * (1 - self._share) / self._share
            self._opened = self._counts_from = None

    def _in_window(self) -> bool:
        assert self._counts_from is not None
        return self._share >= 1 or self._clock() - self._counts_from < self._window_s

    def _ended(self) -> bool:
        assert self._opened is not None
        if self._counts_from is None:
            return self._clock() - self._opened > _FILLING_MAX * self._window_s
        return not self._in_window() and not self._counted
