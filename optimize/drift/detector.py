"""Sequential detection of a share that exceeds a bound, with a guaranteed rate of false alarms. Pure.

As long as nothing has changed, each request exceeds an edge with a probability of at most q, whatever came before it.
Against an alternative p > q, the likelihood ratio of a minute in which k of n requests exceed the edge,

    e = (p / q) ** k * ((1 - p) / (1 - q)) ** (n - k),

has an expectation of at most 1, for every probability up to q. The CUSUM of Page ("Continuous inspection schemes",
1954), M = max(M, 1) * e from minute to minute, averaged over alternatives, is then an e-detector (Shin, Ramdas,
Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2024): the mean time until it first
reaches a threshold A, while nothing has changed, is at least A minutes. The average of K detectors is one too, so each
of K has the threshold K * A.

Requests of one minute may belong together (a user's, a batch's). A power of e below 1 also has an expectation of at
most 1, and if requests come in groups of m alike, e ** (1 / m) is the ratio of the groups. Groups of a given size are
allowed for, and beyond them those of n / `REQUESTS_MOST`: a minute counts as that many requests at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

REQUESTS_MOST = 30.0
"""Requests that a minute counts as at most."""
_ODDS_RATIOS = (1.5, 3.0, 10.0, 30.0)
"""The alternatives: how many times the odds of exceeding have grown."""
_LEAST = 1e-4
"""Smallest bound on a share; below it no share of practical interest is told from another."""


@dataclass(frozen=True)
class Alarm:
    """A change that was detected.

    Attributes:
        since: Unix time of the last reading before the change: the most likely one.
        at: Unix time of the reading that proved it.
    """

    since: float
    at: float


class Detector:
    """Detects that a share exceeds its bound.

    Args:
        bound: Largest probability with which a request exceeds, as long as nothing has changed.
        together: Number of requests that may come together and be alike.
    """

    def __init__(self, bound: float, together: float = 1.0) -> None:
        self._together = together
        q = min(max(bound, _LEAST), 1 - _LEAST)
        shares = [widened(q, ratio - 1) for ratio in _ODDS_RATIOS]
        self._gains = [(math.log(p / q), math.log((1 - p) / (1 - q))) for p in shares]
        self._logs = [0.0] * len(shares)
        self._since = [math.nan] * len(shares)
        self._last = math.nan

    def add(self, at: float, hits: float, n: float) -> float:
        """Take in one reading; returns the logarithm of the detector.

        Args:
            at: Unix time of its end.
            hits: Number of requests that exceed.
            n: Number of all requests.
        """
        weight = min(1 / self._together, REQUESTS_MOST / n) if n else 0.0
        began = at if math.isnan(self._last) else self._last
        for i, (hit, miss) in enumerate(self._gains):
            if self._logs[i] <= 0:
                self._logs[i], self._since[i] = 0.0, began
            self._logs[i] += weight * (hits * hit + (n - hits) * miss)
        self._last = at
        return self.log

    @property
    def log(self) -> float:
        """Logarithm of the average over the alternatives."""
        most = max(self._logs)
        return most + math.log(sum(math.exp(log - most) for log in self._logs) / len(self._logs))

    @property
    def since(self) -> float:
        """Unix time from which on the evidence speaks for a change: the end of the reading before it."""
        return self._since[self._logs.index(max(self._logs))]


def widened(share: float, margin: float) -> float:
    """A share whose odds are greater by a margin."""
    odds = share / (1 - share) * (1 + margin) if share < 1 else math.inf
    return 1.0 if math.isinf(odds) else odds / (1 + odds)


def threshold(detectors: int, readings: float) -> float:
    """Logarithm at which each of several detectors gives an alarm.

    Args:
        detectors: Their number.
        readings: Readings without a change in which one false alarm of all of them together may be expected.
    """
    return math.log(max(detectors, 1) * readings)


def first_alarm(detector: Detector, readings: Sequence[tuple[float, float, float]], limit: float) -> Alarm | None:
    """The first alarm over readings (unix time, hits, requests); None where none is given."""
    for at, hits, n in readings:
        if detector.add(at, hits, n) >= limit:
            return Alarm(detector.since, at)
    return None
