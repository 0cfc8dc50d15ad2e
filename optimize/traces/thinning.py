"""Fewer requests with the bursts that were recorded.

To keep each request with the same probability does not do: what such thinning leaves of any process tends to the
Poisson process, however bursty it was (Rényi 1956; Daley and Vere-Jones, "An Introduction to the Theory of Point
Processes", section 11.3). So the first requests of each run are kept with the gaps between them, which are stretched
until they fill the time of the whole run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from optimize.errors import ConfigError
from optimize.traces.requests import Floats, Ints, Requests
from optimize.traces.stretch import Stretch

_KEPT_OF_RUN = 100
"""Requests, or sessions, that are kept of each run: one seam in a hundred gaps."""


def thinned(part: Stretch, keep: float) -> Stretch:
    """A share of the requests, over the same time.

    From one run to the next the rate has its recorded course, times `keep`. Within a run every gap keeps its proportion
    to the mean gap, and with it the gaps keep their variation and their order: the dispersion of intervals of Cox and
    Lewis ("The Statistical Analysis of Series of Events", 1966, section 4.2). Sessions are kept whole: the first
    requests of sessions are thinned so, and the others follow at their recorded distance.

    Raises:
        ConfigError: the share is none, or leaves fewer than two requests.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"load.arrivals.keep={keep:g} must be a share above 0 and at most 1")
    if keep == 1:
        return part
    requests, end_s = part.requests, part.start_s + part.span_s
    sessions = _sessions(requests)
    firsts = np.unique(sessions, return_index=True)[1]
    moved_s = _moved(requests.offsets_s[firsts], end_s, keep)
    offsets_s = requests.offsets_s + (moved_s - requests.offsets_s[firsts])[sessions]
    rows = np.flatnonzero(offsets_s < end_s)  # not so where it is no number, nor where a session outlives the trace
    if len(rows) < 2:
        raise ConfigError(f"load.arrivals.keep={keep:g} leaves {len(rows)} of {len(requests)} requests: keep more")
    rows = rows[np.argsort(offsets_s[rows], kind="stable")]
    return replace(part, requests=replace(requests.only(rows), offsets_s=offsets_s[rows]))


def _sessions(requests: Requests) -> Ints:
    """Number of each request's session, in the order in which they begin; a request without one is one of its own."""
    numbers: dict[Any, int] = {}
    names = requests.sessions if requests.sessions is not None else [None] * len(requests)
    keys = (row if name is None else name for row, name in enumerate(names))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _moved(times_s: Floats, end_s: float, keep: float) -> Floats:
    """When each arrival comes after thinning; no number for those that do not."""
    moved_s = np.full(len(times_s), np.nan)
    edges_s = np.append(times_s, end_s)
    starts = [*range(0, len(times_s), round(_KEPT_OF_RUN / keep)), len(times_s)]
    for start, end in zip(starts, starts[1:], strict=False):
        number = round(keep * (end - start))
        within_s = edges_s[start : start + number + 1] - edges_s[start]
        if number:
            stretch = (edges_s[end] - edges_s[start]) / within_s[-1] if within_s[-1] > 0 else 1.0
            moved_s[start : start + number] = edges_s[start] + stretch * within_s[:-1]
    return moved_s
