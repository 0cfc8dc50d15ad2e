"""A bisection with fixed windows, as load tools look for a capacity.

It doubles the load until a window breaks the SLO, and then halves. It has an interval only by being repeated (Student's
t). Its windows come from the steady state, so that they need no warm-up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from benchmarks.capacity_cases import Case, LongRun
from optimize.capacity import Unit

_BISECTIONS = 150
_WINDOWS_S = 20 * 1.5 ** np.arange(10)
_STEPS = range(2, 9)
_REPEATS = (2, 3, 4, 5, 6, 8, 10, 15, 20)
_GROUPS, _COVERS = 400, 0.93
_GRAIN = 0.01
"""How far the levels of the long simulations are apart, beyond which nothing is asked of a bisection."""


def bisect(
    case: Case, runs: Sequence[LongRun], window_s: float, steps: int, rng: np.random.Generator
) -> tuple[float, int]:
    """(capacity, windows) of one search. Users are whole: it ends between two neighbours, with the lower one."""
    whole = case.search.unit is Unit.USERS

    def holds(level: float) -> bool:
        if level < runs[0].level:
            return True
        if level > runs[-1].level:
            return False
        return min(runs, key=lambda run: abs(math.log(run.level / level))).holds(case.least, window_s, rng)

    high, windows = _level(case.search.first * math.exp(rng.uniform(-0.35, 0.35)), whole), 1
    while holds(high):
        high, windows = 2 * high, windows + 1
    low = high / 2
    for _ in range(steps):
        middle = _level(math.sqrt(low * high), whole)
        if middle in (low, high):
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
        windows += 1
    return low if whole else math.sqrt(low * high), windows


def _level(level: float, whole: bool) -> float:
    return float(max(1, round(level))) if whole else level


Setting = tuple[float, int, int]
"""(window in seconds, steps, repeats) of a bisection."""


@dataclass(frozen=True, slots=True)
class Bisections:
    """What repeated bisections of one setting show of one engine.

    Attributes:
        half: Half of the interval's width as a share of the capacity; the median.
        covers: Share of intervals that cover the capacity.
        load_s: Seconds of load of all repeats; the mean.
    """

    half: float
    covers: float
    load_s: float


def bisections(case: Case, runs: Sequence[LongRun], truth: float) -> dict[Setting, Bisections]:
    """What each setting shows of an engine of this capacity."""
    rng, every = np.random.default_rng(1), {}
    for window_s, steps in itertools.product(_WINDOWS_S, _STEPS):
        searches = np.array([bisect(case, runs, window_s, steps, rng) for _ in range(_BISECTIONS)])
        one_s = window_s * float(searches[:, 1].mean())
        for repeats in _REPEATS:
            groups = rng.choice(searches[:, 0] / truth, (_GROUPS, repeats))
            halves = stdtrit(repeats - 1, 0.975) * groups.std(1, ddof=1) / math.sqrt(repeats)
            covers = float((np.abs(groups.mean(1) - 1) <= halves + _GRAIN).mean())
            every[float(window_s), steps, repeats] = Bisections(float(np.median(halves)), covers, repeats * one_s)
    return every


def as_narrow(every: Mapping[Setting, Bisections], half: float) -> dict[Setting, float]:
    """Settings whose interval is as narrow and covers the truth in 93 % or more -> seconds of load."""
    return {setting: b.load_s for setting, b in every.items() if b.half <= half and b.covers >= _COVERS}


def best_for_all(costs: Sequence[Mapping[Setting, float]]) -> Setting | None:
    """The cheapest setting in all that suits every engine; None where there is none."""
    common = set.intersection(*(set(cost) for cost in costs))
    return min(common, key=lambda setting: sum(cost[setting] for cost in costs), default=None)
