"""Finds the capacity of a live engine: a ramp brackets it, then probes at informative levels narrow the interval."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from optimize.capacity.capacity import Capacity, Kind, Probe, Unit
from optimize.capacity.evidence import WARM_UP, settled
from optimize.capacity.evidence_book import Belief, EvidenceBook
from optimize.capacity.probing import Prober, Search
from optimize.capacity.requests import Requests
from optimize.capacity.response import TRUSTED
from optimize.capacity.slo import Slo

_STEP, _FINE_STEP = 2.0, 1.25
_WIDE = 1.3
_ABOVE, _BELOW = 1.6, 0.5
_SAME = 1.02
_JUST_BELOW = 0.95
_FEWEST_PROBES = 4
"""Whole probes that the budget has room for; what is too short to show a small overload widens the interval."""
_LEAST_REFINEMENTS = 2
_CORRELATIONS = 30
_CLUMP = 12.0
_FIRST_REQUESTS = 5
_JITTER = 0.35
_OVERLOAD = 2.0
_FEW = 10


def estimate(
    prober: Prober, slo: Slo, search: Search, seed: int = 0, report: Callable[[Probe], None] = lambda _: None
) -> Capacity:
    """The capacity of one live engine under an SLO, with its 95 % interval.

    Args:
        prober: Applies the load.
        slo: What must hold.
        search: Levels, precision and budget.
        seed: Of the ramp's exact levels, lest every search end at the same steps.
        report: Told of every probe.
    """
    return _Estimator(prober, slo, search, seed, report).run()


class _Estimator:
    def __init__(self, prober: Prober, slo: Slo, search: Search, seed: int, report: Callable[[Probe], None]) -> None:
        self._prober, self._slo, self._search, self._report = prober, slo, search, report
        self._random = random.Random(seed)
        self._book = EvidenceBook(slo, search.unit, (search.floor / 4, search.highest * 4))
        self._reach = search.highest
        self._limit_s = max(limit.most_s for limit in slo.limits)
        overload_s = self._book.wait_max_s / search.precision / (1 - WARM_UP)
        self._overload_s = min(overload_s, search.most_s / _FEWEST_PROBES)
        self._refinements = 0

    def run(self) -> Capacity:
        if self._given_up():
            return self._at_most()
        self._ramp()
        while not self._finished():
            self._refine()
            self._ramp()  # goes on where a longer probe has shown that a short one was mistaken
        return self._result()

    # --- probes ---

    def _probe(self, level: float, slice_s: float, whole: bool) -> Probe:
        least_s = self._overload_s if whole and not self._book.any_whole else self._search.probe_least_s

        def enough(requests: Requests, load_s: float) -> bool:
            if load_s < max(self._search.probe_least_s, slice_s / 4):
                return False
            certain = settled(requests, self._slo, load_s)
            if len(certain) < _FIRST_REQUESTS:
                return False
            return load_s >= slice_s or self._overloaded(certain)

        run = self._prober(level, enough, max(self._left_s, least_s))
        overloaded = self._overloaded(settled(run.requests, self._slo, run.load_s))
        probe = self._book.add(level, run, overloaded or (whole and run.load_s >= self._overload_s))
        if not run.client_kept_up:
            self._reach = min(self._reach, level / _FINE_STEP)
        self._report(probe)
        return probe

    @property
    def _left_s(self) -> float:
        """Seconds of load that the budget has left."""
        return self._search.most_s - self._book.load_s

    def _overloaded(self, certain: Requests) -> bool:
        """Whether the misses so far are far more than the SLO allows."""
        for name, flags in self._slo.within(certain).items():
            most = min(0.9, _OVERLOAD * (1 - self._slo.criteria()[name] ** TRUSTED[1]))
            missed = len(flags) - int(flags.sum())
            if missed > most * len(flags) and (missed >= _FEW or missed == len(flags)):
                return True
        return False

    # --- the ramp ---

    def _given_up(self) -> bool:
        incumbent = self._search.incumbent
        if incumbent is None or not self._search.floor <= incumbent <= self._reach:
            return False
        level = self._level(incumbent)
        probe = self._probe(level, self._slice_s(level), whole=True)
        fewest = {name: least ** TRUSTED[1] for name, least in self._slo.criteria().items()}
        return probe.holds is False and any(probe.shares[name] < share for name, share in fewest.items())

    def _ramp(self) -> None:
        """Up while the SLO holds, or down while it does not, until both have been seen or an end is reached."""
        book = self._book
        if book.probes:
            step, level = _FINE_STEP, book.probes[-1].level
        else:
            step, level = _STEP, self._search.first * math.exp(self._random.uniform(-_JITTER, _JITTER))
            self._short(level)
        while book.bracket() is None and self._left_s > self._overload_s:
            last = book.probes[-1].level
            level = self._level(last * step if book.meets(last) else last / step**2)
            if level == last:
                return
            self._short(level)
            step = min(step**2, _STEP)

    def _short(self, level: float) -> None:
        level = self._level(level)
        self._probe(level, self._short_s(level), whole=False)

    def _short_s(self, level: float) -> float:
        return max(self._search.probe_least_s, 2 * self._limit_s, _FIRST_REQUESTS / self._rate(level))

    def _rate(self, level: float) -> float:
        """Requests per second at a level, by the probes so far; a guess before the first."""
        if self._search.unit is Unit.PER_S:
            return level
        return max((p.requests / p.load_s for p in self._book.probes if p.requests), default=level / self._limit_s)

    def _level(self, level: float) -> float:
        """A level that can be applied: whole users, within the client's reach."""
        level = min(max(level, self._search.floor), self._reach)
        return float(max(1, math.floor(level + 0.5))) if self._search.unit is Unit.USERS else level

    # --- refinement ---

    @property
    def _out_of_time(self) -> bool:
        return self._left_s <= (self._overload_s if self._book.any_whole else 0.0)

    def _finished(self) -> bool:
        if self._out_of_time:
            return True
        belief = self._book.belief()
        if belief is None:
            return self._book.requests_from(self._level(self._reach)) >= self._fewest()
        low, high = belief.interval
        if low > self._reach or high < self._search.floor:
            return True
        if self._search.unit is Unit.USERS and math.floor(low) == math.floor(high):
            return True
        return self._refinements >= _LEAST_REFINEMENTS and self._half(belief) <= self._search.precision

    def _fewest(self) -> float:
        """As many requests as show by not missing once that the strictest limit holds."""
        return max(3 / (1 - least) for least in self._slo.criteria().values())

    def _refine(self) -> None:
        level = self._level(self._next())
        self._probe(level, self._slice_s(level), whole=True)

    def _next(self) -> float:
        """Within a wide bracket; then by turns where somewhat more and somewhat fewer requests miss than may.

        So the capacity is interpolated, and the same levels are seen early and late.
        """
        bracket, belief = self._book.bracket(), self._book.belief()
        if bracket is not None and bracket[1] > _WIDE * bracket[0]:
            return self._within(bracket)
        if belief is None:
            last = self._book.probes[-1].level
            return bracket[1] if bracket else last * _FINE_STEP if self._book.meets(last) else last
        if bracket is not None and not self._book.has_whole_near(bracket[0], _SAME):
            return bracket[0]
        self._refinements += 1
        ratio = _ABOVE if self._refinements % 2 else _BELOW
        low, high = belief.interval if bracket is None else (bracket[0] / _FINE_STEP, bracket[1] * _FINE_STEP)
        level = min(max(belief.median * ratio ** (1 / belief.steepness), low), high)
        return next((p.level for p in self._book.probes if 1 / _SAME < p.level / level < _SAME), level)

    def _within(self, bracket: tuple[float, float]) -> float:
        """Just below the rate at which the overloaded engine answered, once; then the lower end if only a short probe
        held there, for that may have ended before its queue had grown; then the middle."""
        low, high = bracket
        pace = _JUST_BELOW * self._book.pace(high) if self._search.unit is Unit.PER_S else 0.0
        if low / _STEP < pace < high / _FINE_STEP and not self._book.has_whole_near(pace, _FINE_STEP):
            return pace
        return math.sqrt(low * high) if self._book.has_whole_near(low, _SAME) else low

    def _slice_s(self, level: float) -> float:
        """Long enough to tell the least share from a smaller one, for the engine to forget how it began, and for the
        queue of a small overload to grow to the limit; half of what the interval still needs."""
        clumps = max(1.0, self._book.dispersion(level) / _CLUMP)
        needed_s = max(self._fewest() * clumps / self._rate(level), self._missing_s() / 2)
        return max(self._short_s(level), _CORRELATIONS * self._book.correlation_s(level), needed_s, self._overload_s)

    def _missing_s(self) -> float:
        """Seconds of load that would make the interval as narrow as asked for; at most as many as there have been."""
        belief = self._book.belief()
        if belief is None:
            return 0.0
        ratio = self._half(belief) / self._search.precision
        return self._book.whole_s * min(max(ratio**2 - 1, 0.0), 1.0)

    @staticmethod
    def _half(belief: Belief) -> float:
        """Half of the interval's width, as a share of the value."""
        low, high = belief.interval
        return (high - low) / (2 * belief.median)

    # --- results ---

    def _result(self) -> Capacity:
        belief = self._book.belief(narrow=not self._out_of_time)
        if belief is None:
            level = self._book.highest()
            binds = "client" if level >= self._level(self._reach) else None
            return self._capacity(Kind.AT_LEAST, (level, level, math.inf), binds, None)
        if belief.median > self._reach:
            low = min(self._reach, belief.quantile(0.025))
            return self._capacity(Kind.AT_LEAST, (self._reach, low, math.inf), "client", belief)
        low, high = belief.interval
        figures = (belief.median, low, high)
        if self._search.unit is Unit.USERS:
            figures = (math.floor(belief.median), math.floor(low), math.floor(high))
        if belief.median < self._search.floor:
            return self._capacity(Kind.ZERO, (0.0, 0.0, max(high, self._search.floor)), self._book.binds(belief), None)
        return self._capacity(Kind.BRACKETED, figures, self._book.binds(belief), belief)

    def _at_most(self) -> Capacity:
        belief, level = self._book.belief(), self._book.probes[-1].level
        return self._capacity(Kind.AT_MOST, (level, 0.0, level), self._book.binds(belief) if belief else None, None)

    def _capacity(
        self, kind: Kind, figures: tuple[float, float, float], binds: str | None, belief: Belief | None
    ) -> Capacity:
        curve = (belief.steepness, belief.drift) if belief else (None, None)
        value, low, high = (float(figure) for figure in figures)
        return Capacity(self._search.unit, value, low, high, kind, binds, self._book.probes, *curve)
