"""A fleet of simulated replicas under a load that changes, resized by an autoscaler, in virtual time."""

from __future__ import annotations

import bisect
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.control_loop import SYNC_S, Rule
from benchmarks.replicas import Reading, Replica, Request

TTFT_S, TPOT_S, SHARE = 1.0, 0.025, 0.99
"""The objective: limits, and the share of requests within both."""
TOKENS, SPREAD = 300.0, 0.5
"""Mean length of an answer, and its logarithmic deviation."""
START_S, DRAIN_S = 60.0, 35.0
WARM_S, MINUTE_S = 900.0, 60.0
LOW_PER_S, HIGH_PER_S = 4.0, 16.0
_HISTORY = 8  # readings of a replica that are kept

Load = Callable[[float], float]
"""Requests per second at a second."""


def ramp(rise_s: float) -> Load:
    """A load that rises within some seconds, stays for 15 minutes, and falls as quickly."""

    def rate(at_s: float) -> float:
        up = min(1.0, max(0.0, (at_s - WARM_S - 300) / rise_s))
        down = min(1.0, max(0.0, (at_s - WARM_S - 300 - rise_s - 900) / rise_s))
        return LOW_PER_S + (HIGH_PER_S - LOW_PER_S) * (up - down)

    return rate


def constant(rate_per_s: float) -> Load:
    """A load that does not change."""
    return lambda _: rate_per_s


LOADS: dict[str, tuple[Load, float]] = {
    "a burst: four times the load within a minute": (ramp(60.0), 3900.0),
    "a rise: four times the load within ten minutes": (ramp(600.0), 4800.0),
}
"""Load and its end in seconds, by name."""


def requests_of(load: Load, end_s: float, seed: int) -> list[Request]:
    """Poisson arrivals at the rate of a load (thinned), with lognormal lengths of answers."""
    rng, at_s, requests = random.Random(seed), 0.0, []
    while (at_s := at_s + rng.expovariate(HIGH_PER_S)) < end_s:
        if rng.random() * HIGH_PER_S < load(at_s):
            tokens = rng.lognormvariate(math.log(TOKENS) - SPREAD**2 / 2, SPREAD)
            requests.append(Request(at_s, max(1.0, tokens)))
    return requests


def within(request: Request) -> bool:
    """Whether it keeps both limits."""
    return request.ttft_s <= TTFT_S and request.tpot_s <= TPOT_S


@dataclass
class Fleet:
    """Replicas behind a service that gives each request to any of those that serve.

    Attributes:
        rule: The autoscaler; None keeps the replicas that there are.
        size: Replicas at the beginning, all of which serve.
        seconds: Replica-seconds from the end of the warm-up.
        counts: (second, replicas that serve, replicas wanted) at every decision.
    """

    rule: Rule | None
    size: int
    seconds: float = 0.0
    counts: list[tuple[float, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._replicas = [Replica(0.0) for _ in range(self.size)]
        self._histories: dict[int, list[Reading]] = {id(r): [] for r in self._replicas}
        self._draining: list[tuple[float, Replica]] = []

    def replay(self, requests: Sequence[Request], end_s: float, seed: int) -> None:
        """Serve requests in order of their arrival, and decide in between."""
        rng, next_s = random.Random(seed), SYNC_S
        for request in requests:
            while next_s <= request.due_s:
                self._decide(next_s)
                next_s += SYNC_S
            serving = [r for r in self._replicas if r.ready_s <= request.due_s]
            rng.choice(serving).send(request)
        for replica in self._replicas:
            replica.advance(end_s + DRAIN_S)

    def _decide(self, at_s: float) -> None:
        serving = [r for r in self._replicas if r.ready_s <= at_s]
        for replica in serving:
            history = self._histories[id(replica)]
            history.append(replica.read(at_s))
            del history[:-_HISTORY]
        current = len(self._replicas)
        if self.rule is not None:
            self._resize(self.rule.replicas(at_s, current, [self._histories[id(r)] for r in serving]), at_s)
        self.counts.append((at_s, len(serving), len(self._replicas)))
        if at_s > WARM_S:
            self.seconds += SYNC_S * (len(self._replicas) + sum(until > at_s for until, _ in self._draining))

    def _resize(self, target: int, at_s: float) -> None:
        while len(self._replicas) < target:
            replica = Replica(at_s + START_S, at_s + START_S)
            self._histories[id(replica)] = []
            self._replicas.append(replica)
        while len(self._replicas) > target:  # the youngest first; it answers what it has
            replica = self._replicas.pop()
            replica.advance(at_s + DRAIN_S)
            self._draining.append((at_s + DRAIN_S, replica))


@dataclass(frozen=True)
class Outcome:
    """One replay.

    Attributes:
        share: Share of all requests within the objective.
        broken_minutes: Minutes in which fewer than the objective's share of requests were within.
        replica_hours: Hours of all replicas together.
        most: Most replicas at a time.
        serving: Replicas that serve, by minute.
    """

    share: float
    broken_minutes: int
    replica_hours: float
    most: int
    serving: Sequence[int]


def outcome(fleet: Fleet, requests: Sequence[Request], end_s: float) -> Outcome:
    """What became of the requests after the warm-up."""
    counted = [r for r in requests if r.due_s > WARM_S]
    minutes: dict[int, list[bool]] = {}
    for request in counted:
        minutes.setdefault(int((request.due_s - WARM_S) // MINUTE_S), []).append(within(request))
    times = [at_s for at_s, _, _ in fleet.counts]
    marks = [WARM_S + MINUTE_S * k for k in range(int((end_s - WARM_S) / MINUTE_S))]
    return Outcome(
        statistics.fmean(map(within, counted)), sum(statistics.fmean(flags) < SHARE for flags in minutes.values()),
        fleet.seconds / 3600, max(target for at_s, _, target in fleet.counts if at_s > WARM_S),
        [fleet.counts[bisect.bisect_right(times, mark) - 1][1] for mark in marks],
    )  # fmt: skip
