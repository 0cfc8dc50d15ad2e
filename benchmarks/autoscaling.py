"""A burst of requests against simulated replicas that a bundle's own autoscaler adds and removes, in virtual time.

The rule is parsed from the `keda.yaml` that `optimize.deploy` writes for the capacity that one replica has in the same
simulation. Beside it: 60 % of the CPU, by two ideas of what a Pod uses; a guessed number of waiting requests; and no
autoscaler. Usage: python -m benchmarks.autoscaling [--repeats 5]
"""

from __future__ import annotations

import argparse
import bisect
import copy
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import yaml

from benchmarks.common import RESULTS
from benchmarks.control_loop import SCRAPE_S, SYNC_S, CpuRule, Limits, QueueRule, RateRule, Rule
from benchmarks.replicas import SEQUENCES, STEP_S, TOKEN_S, Reading, Replica, Request
from objectives import Estimate
from optimize.config.deploy import Autoscale
from optimize.deploy.autoscaling import KEDA, autoscaling_files
from optimize.deploy.scaling import Scaling
from optimize.files import write_atomically
from optimize.formatting import markdown_line

TTFT_S, TPOT_S, SHARE = 1.0, 0.025, 0.99
_TOKENS, _SPREAD = 300.0, 0.5  # mean and logarithmic deviation of the answers' lengths
_START_S, _DRAIN_S = 60.0, 35.0
_WARM_S, _MINUTE_S = 900.0, 60.0
_LOW_PER_S, _HIGH_PER_S = 4.0, 16.0
_CAPACITY_RUN_S, _CAPACITY_STEPS = 4000.0, 9
_WRITTEN, _STANDING = "keda.yaml of the bundle", 4
_HISTORY = 8  # readings of a replica that are kept

Load = Callable[[float], float]
"""Requests per second at a second."""


def ramp(rise_s: float) -> Load:
    """A load that rises within some seconds, stays for 15 minutes, and falls as quickly."""

    def rate(at_s: float) -> float:
        up = min(1.0, max(0.0, (at_s - _WARM_S - 300) / rise_s))
        down = min(1.0, max(0.0, (at_s - _WARM_S - 300 - rise_s - 900) / rise_s))
        return _LOW_PER_S + (_HIGH_PER_S - _LOW_PER_S) * (up - down)

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
    while (at_s := at_s + rng.expovariate(_HIGH_PER_S)) < end_s:
        if rng.random() * _HIGH_PER_S < load(at_s):
            tokens = rng.lognormvariate(math.log(_TOKENS) - _SPREAD**2 / 2, _SPREAD)
            requests.append(Request(at_s, max(1.0, tokens)))
    return requests


def within(request: Request) -> bool:
    """Whether it keeps both limits."""
    return request.ttft_s <= TTFT_S and request.tpot_s <= TPOT_S


def capacity_of_a_replica(run_s: float = _CAPACITY_RUN_S) -> Estimate:
    """The largest rate at which the objective holds, by bisection over long runs, within 5 %."""
    low, high = 1.0, SEQUENCES / (STEP_S + TOKEN_S * SEQUENCES) / _TOKENS
    for step in range(_CAPACITY_STEPS):
        rate = (low + high) / 2
        requests = [r for r in requests_of(constant(rate), run_s, step) if r.due_s > 100]
        replica = Replica(0.0)
        for request in requests:
            replica.send(request)
        replica.advance(math.inf)
        holds = statistics.fmean(map(within, requests)) >= SHARE
        low, high = (rate, high) if holds else (low, rate)
    value = (low + high) / 2
    return Estimate(value, 0.95 * value, 1.05 * value, 1, "1/s")


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
            replica.advance(end_s + _DRAIN_S)

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
        if at_s > _WARM_S:
            self.seconds += SYNC_S * (len(self._replicas) + sum(until > at_s for until, _ in self._draining))

    def _resize(self, wanted: int, at_s: float) -> None:
        while len(self._replicas) < wanted:
            replica = Replica(at_s + _START_S, at_s + _START_S)
            self._histories[id(replica)] = []
            self._replicas.append(replica)
        while len(self._replicas) > wanted:  # the youngest first; it answers what it has
            replica = self._replicas.pop()
            replica.advance(at_s + _DRAIN_S)
            self._draining.append((at_s + _DRAIN_S, replica))


@dataclass(frozen=True)
class Outcome:
    """One replay.

    Attributes:
        kept: Share of all requests within the objective.
        broken_minutes: Minutes in which fewer than the objective's share of requests were within.
        replica_hours: Hours of all replicas together.
        most: Most replicas at a time.
        serving: Replicas that serve, by minute.
    """

    kept: float
    broken_minutes: int
    replica_hours: float
    most: int
    serving: Sequence[int]


def outcome(fleet: Fleet, requests: Sequence[Request], end_s: float) -> Outcome:
    """What became of the requests after the warm-up."""
    counted = [r for r in requests if r.due_s > _WARM_S]
    minutes: dict[int, list[bool]] = {}
    for request in counted:
        minutes.setdefault(int((request.due_s - _WARM_S) // _MINUTE_S), []).append(within(request))
    times = [at_s for at_s, _, _ in fleet.counts]
    marks = [_WARM_S + _MINUTE_S * k for k in range(int((end_s - _WARM_S) / _MINUTE_S))]
    return Outcome(
        statistics.fmean(map(within, counted)), sum(statistics.fmean(kept) < SHARE for kept in minutes.values()),
        fleet.seconds / 3600, max(wanted for at_s, _, wanted in fleet.counts if at_s > _WARM_S),
        [fleet.counts[bisect.bisect_right(times, mark) - 1][1] for mark in marks],
    )  # fmt: skip


def rules_for(scaling: Scaling) -> dict[str, Rule | None]:
    """The rules that are compared, by name; that of the bundle is parsed from its file."""
    least, most = scaling.replicas_min, scaling.replicas_max
    return {
        _WRITTEN: _written(scaling),
        f"the same, deploy.replicas={_STANDING}": _written(replace(scaling, replicas_min=_STANDING)),
        "60 % CPU, use in proportion to tokens": CpuRule(0.6, Limits(least, most), scaling.capacity.value * _TOKENS),
        "60 % CPU, use whenever it computes": CpuRule(0.6, Limits(least, most)),
        "5 waiting requests per replica": QueueRule(5.0, Limits(least, most)),
        "no autoscaler, replicas for the peak": None,
    }


def _written(scaling: Scaling) -> RateRule:
    return RateRule.of(yaml.safe_load(autoscaling_files("vllm-chat", "chat", scaling)[KEDA]))


def scaling_for(capacity: Estimate) -> Scaling:
    """The scaling that `optimize.deploy` computes for the peak of the loads."""
    return Scaling(_HIGH_PER_S, capacity, Autoscale(), 1, _START_S)


def replayed(rule: Rule | None, scaling: Scaling, load: Load, end_s: float, seed: int) -> Outcome:
    """One replay of a load under a rule, which begins with the replicas for the low rate or all of them."""
    requests = requests_of(load, end_s, seed)
    first = math.ceil(_LOW_PER_S / scaling.per_replica_per_s)  # the warm-up is long enough for every rule to settle
    fleet = Fleet(copy.deepcopy(rule), scaling.replicas if rule is None else first)
    fleet.replay(requests, end_s, seed)
    return outcome(fleet, requests, end_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="replays of each load under each rule, other seeds")
    repeats = parser.parse_args().repeats
    scaling = scaling_for(capacity_of_a_replica())
    sections = [_head(scaling, repeats)]
    for name, (load, end_s) in LOADS.items():
        outcomes = {
            title: [replayed(rule, scaling, load, end_s, seed) for seed in range(repeats)]
            for title, rule in rules_for(scaling).items()
        }
        sections += [_section(name, outcomes, load)]
    write_atomically(RESULTS / "autoscaling.md", "\n\n".join(sections) + "\n")


def _head(scaling: Scaling, repeats: int) -> str:
    capacity = scaling.capacity
    return "\n\n".join(
        [
            "# Autoscaling by a measured capacity",
            f"Simulated on {datetime.now(UTC):%Y-%m-%d} with `python -m benchmarks.autoscaling --repeats {repeats}`, "
            f"in virtual time: no engine ran. Means, with the least and the most of {repeats} replays with different "
            "arrivals.",
            f"A replica computes a step in {1000 * STEP_S:g} ms + {1000 * TOKEN_S:g} ms per sequence, at most "
            f"{SEQUENCES} at once; answers have {_TOKENS:g} tokens on average (lognormal), arrivals are Poisson, and "
            f"any replica that serves may get a request. The objective: {100 * SHARE:g} % of requests with a first "
            f"token within {TTFT_S:g} s and at most {1000 * TPOT_S:g} ms per token. One replica keeps it up to "
            f"{capacity.value:.2f} requests/s (bisection over runs of {_CAPACITY_RUN_S:g} s; taken as "
            f"{capacity.low:.2f} to {capacity.high:.2f}). A replica serves {_START_S:g} s after its creation, "
            f"Prometheus reads every {SCRAPE_S:g} s, and the autoscaler decides every {SYNC_S:g} s, with Kubernetes' "
            "tolerance of a tenth.",
            f"The rule is parsed from the written `keda.yaml`: threshold {scaling.per_replica_per_s:.3g} requests/s "
            f"per replica, from {scaling.replicas_min} to {scaling.replicas_max} replicas, removed after "
            f"{scaling.hold_s} s without need. All other autoscalers have the same bounds and Kubernetes' defaults. "
            "What a Pod's CPU shows depends on the engine, so two ideas of it are replayed: use in proportion to the "
            "tokens, full at the capacity; and full use whenever a step is computed, as of an engine that polls its "
            "device or computes on the CPU.",
        ]
    )


def _section(name: str, outcomes: Mapping[str, Sequence[Outcome]], load: Load) -> str:
    head = ["rule", "requests within the objective", "minutes broken", "replica-hours", "most replicas"]
    rows = [
        [
            title, _shown([100 * o.kept for o in some], " %"), _shown([o.broken_minutes for o in some]),
            _shown([o.replica_hours for o in some]), str(max(o.most for o in some)),
        ]
        for title, some in outcomes.items()
    ]  # fmt: skip
    table = [markdown_line(row) for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"## {name[0].upper()}{name[1:]}", "", *table, "", *_over_time(outcomes, load)])


def _over_time(outcomes: Mapping[str, Sequence[Outcome]], load: Load) -> list[str]:
    """Replicas that serve, every third minute of the first replay."""
    marks = range(0, len(next(iter(outcomes.values()))[0].serving), 3)
    head = ["minute", *(str(mark) for mark in marks)]
    rows = [["requests/s", *(f"{load(_WARM_S + 60 * mark):.3g}" for mark in marks)]]
    rows += [[title, *(str(some[0].serving[mark]) for mark in marks)] for title, some in outcomes.items()]
    lines = [markdown_line(row) for row in (head, ["---"] * len(head), *rows)]
    return ["Replicas that serve, in the first replay:", "", *lines]


def _shown(values: Sequence[float], unit: str = "") -> str:
    mean, least, most = (f"{value:.3g}" for value in (statistics.fmean(values), min(values), max(values)))
    return f"{mean}{unit}" if least == most else f"{mean} ({least}–{most}){unit}"


if __name__ == "__main__":
    main()
