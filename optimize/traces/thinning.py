"""Fewer requests with the bursts that were recorded.

To keep each request with the same probability does not do: what is left of any process under such thinning tends to
the Poisson process, however bursty it was (Rényi 1956; Daley and Vere-Jones, "An Introduction to the Theory of Point
Processes", section 11.3). So runs of following requests are kept, and laid out over the time of all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.errors import ConfigError
from optimize.traces.requests import Floats, Ints, Requests
from optimize.traces.stretch import Stretch

_RUN = 100
"""Requests, or sessions, of a run: one seam in a hundred gaps."""
_BIN_S = 60.0
"""The rate of arrivals is taken to be constant for so long; what changes faster is a burst."""


def thinned(part: Stretch, keep: float) -> Stretch:
    """A share of the requests, with the rate's course and the bursts about it.

    Time is first stretched so that each minute's rate is one ("rescaled", Cox and Lewis, "The Statistical Analysis of
    Series of Events", 1966). In that time the first `keep` of each run's room are taken as they are, put together
    without the rest, and mapped back by `keep` times the recorded rate. So every gap keeps its proportion to the mean
    gap of its minute, and with the gaps their variation and their order. Sessions are kept whole: their first requests
    are thinned so, and the others follow at the recorded distance.

    Raises:
        ConfigError: the share is none, or leaves fewer than two requests.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"load.arrivals.keep={keep:g} must be a share above 0 and at most 1")
    if keep == 1:
        return part
    requests = part.requests
    sessions = _sessions(requests)
    firsts = np.unique(sessions, return_index=True)[1]
    starts_s = requests.offsets_s[firsts] - part.start_s
    rate = _Rate(starts_s, part.span_s)
    kept, scaled = _runs(rate.count(starts_s), keep)
    moved_s = np.full(len(firsts), np.nan)
    moved_s[kept] = rate.time_s(scaled / keep) - starts_s[kept]
    shifts_s = moved_s[sessions]
    rows = np.flatnonzero(~np.isnan(shifts_s) & (requests.offsets_s + shifts_s < part.start_s + part.span_s))
    if len(rows) < 2:
        raise ConfigError(f"load.arrivals.keep={keep:g} leaves {len(rows)} of {len(requests)} requests: keep more")
    return _moved(part, rows, requests.offsets_s[rows] + shifts_s[rows])


def _moved(part: Stretch, rows: Ints, offsets_s: Floats) -> Stretch:
    order = np.argsort(offsets_s, kind="stable")
    requests = replace(part.requests.only(rows[order]), offsets_s=offsets_s[order])
    return replace(part, requests=requests)


def _sessions(requests: Requests) -> Ints:
    """Number of each request's session, in the order in which they begin; a request without one is one of its own."""
    numbers: dict[Any, int] = {}
    names = requests.sessions if requests.sessions is not None else [None] * len(requests)
    keys = (row if name is None else name for row, name in enumerate(names))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


class _Rate:
    """How many arrivals came until a time, smoothed over bins, and the reverse."""

    def __init__(self, times_s: Floats, span_s: float) -> None:
        bins = max(1, round(span_s / _BIN_S))
        counts, self._edges_s = np.histogram(times_s, bins=bins, range=(0.0, span_s))
        self._counts = np.concatenate([[0.0], np.cumsum(counts)])

    def count(self, times_s: Floats) -> Floats:
        return np.interp(times_s, self._edges_s, self._counts)

    def time_s(self, counts: Floats) -> Floats:
        """The time by which so many came; after a silence where that was so all through it."""
        return np.interp(counts, self._counts, self._edges_s)


def _runs(counts: Floats, keep: float) -> tuple[NDArray[np.bool_], Floats]:
    """Which arrivals lie in the kept part of their run, and their places where these parts follow one another."""
    run, place = np.divmod(counts, _RUN / keep)
    places = run * _RUN + place
    kept = (place < _RUN) & (places < keep * len(counts))  # the last run is shorter than the others
    return kept, places[kept]
