"""A stretch of a trace: its first or its busiest minutes, or from one second to another."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from optimize.errors import ConfigError
from optimize.traces.requests import Requests

ALL = "all"
Part = str | list[float] | None
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_NAMED = re.compile(r"(first|busiest):(\d+(?:\.\d+)?)(s|min|h)")


@dataclass(frozen=True)
class Stretch:
    """Requests of a part of a trace.

    Attributes:
        requests: Those that came within it.
        start_s: Where it begins, in the trace's own seconds.
        span_s: Its length.
    """

    requests: Requests
    start_s: float
    span_s: float


def stretch(requests: Requests, part: Part, setting: str) -> Stretch:
    """The part of a trace.

    Args:
        requests: The whole trace, in the order of time.
        part: "busiest:10min" (the ten minutes with most requests), "first:90s", [from_s, to_s] counted from the first
            request; None or "all" for the whole.
        setting: The file's name in messages.

    Raises:
        ConfigError: no part is written so, or it holds fewer than two requests.
    """
    if len(requests) < 2 or requests.span_s == 0:
        raise ConfigError(f"load.arrivals.path={setting} must hold at least two arrivals at different times")
    origin_s = float(requests.offsets_s[0])
    if part is None or part == ALL:
        return Stretch(requests, origin_s, requests.span_s)
    start_s, span_s = _bounds(requests, part)
    rows = np.flatnonzero((requests.offsets_s >= start_s) & (requests.offsets_s < start_s + span_s))
    if len(rows) < 2:
        raise ConfigError(
            f"load.arrivals.part={part}: {setting} has {len(rows)} requests there, of {len(requests)} within "
            f"{requests.span_s:.0f} s: choose a longer part, or part=busiest:10min"
        )
    return Stretch(requests.only(rows), start_s, span_s)


def _bounds(requests: Requests, part: str | list[float]) -> tuple[float, float]:
    """Where a part begins, and its length, within the trace."""
    origin_s = float(requests.offsets_s[0])
    if not isinstance(part, str):
        if len(part) != 2 or not 0 <= part[0] < part[1]:
            raise ConfigError(f"load.arrivals.part={part} must be [from_s, to_s] with 0 <= from_s < to_s")
        return origin_s + part[0], part[1] - part[0]
    match = _NAMED.fullmatch(part)
    if match is None or float(match[2]) == 0:
        raise ConfigError(
            f"load.arrivals.part={part!r} must be busiest:10min, first:90s (units s, min, h), [from_s, to_s] or all"
        )
    span_s = min(float(match[2]) * _UNITS_S[match[3]], requests.span_s)
    return (busiest_s(requests, span_s) if match[1] == "busiest" else origin_s), span_s


def shown_s(seconds: float) -> str:
    """A length of time in the unit that suits it: "45 s", "57 min", "26.5 h"."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def busiest_s(requests: Requests, span_s: float) -> float:
    """Where the stretch of this length begins that holds most requests."""
    ends = np.searchsorted(requests.offsets_s, requests.offsets_s + span_s, side="left")
    return float(requests.offsets_s[int(np.argmax(ends - np.arange(len(requests))))])
