"""A burst of requests against simulated replicas that a bundle's own autoscaler adds and removes, in virtual time.

The rule is parsed from the `keda.yaml` that `optimize.deploy` writes for the capacity that one replica has in the same
simulation. Beside it: 60 % of the CPU, by two ideas of what a Pod uses; a guessed number of waiting requests; and no
autoscaler. Usage: python -m benchmarks.autoscaling [--repeats 5]
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import yaml

from benchmarks.autoscaling_plot import draw
from benchmarks.common import RESULTS
from benchmarks.control_loop import SCRAPE_S, SYNC_S, CpuRule, Limits, QueueRule, RateRule, Rule
from benchmarks.fleet import (
    HIGH_PER_S,
    LOADS,
    LOW_PER_S,
    SHARE,
    START_S,
    TOKENS,
    TPOT_S,
    TTFT_S,
    WARM_S,
    Fleet,
    Load,
    Outcome,
    constant,
    outcome,
    requests_of,
    within,
)
from benchmarks.replicas import SEQUENCES, STEP_S, TOKEN_S, Replica
from objectives import Estimate
from optimize.config.deploy import Autoscale
from optimize.deploy.autoscaling import KEDA, autoscaling_files
from optimize.deploy.scaling import Scaling
from optimize.files import write_atomically
from optimize.formatting import markdown_line

_CAPACITY_RUN_S, _CAPACITY_STEPS = 4000.0, 9
_WRITTEN, _STANDING = "keda.yaml of the bundle", 4
_DRAWN = (_WRITTEN, "60 % CPU, use in proportion to tokens", "60 % CPU, use whenever it computes")


def capacity_of_a_replica(run_s: float = _CAPACITY_RUN_S) -> Estimate:
    """The largest rate at which the objective holds, by bisection over long runs, within 5 %."""
    low, high = 1.0, SEQUENCES / (STEP_S + TOKEN_S * SEQUENCES) / TOKENS
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


def rules_for(scaling: Scaling) -> dict[str, Rule | None]:
    """The rules that are compared, by name; that of the bundle is parsed from its file."""
    least, most = scaling.replicas_min, scaling.replicas_max
    return {
        _WRITTEN: _written(scaling),
        f"the same, deploy.replicas={_STANDING}": _written(replace(scaling, replicas_min=_STANDING)),
        "60 % CPU, use in proportion to tokens": CpuRule(0.6, Limits(least, most), scaling.capacity.value * TOKENS),
        "60 % CPU, use whenever it computes": CpuRule(0.6, Limits(least, most)),
        "5 waiting requests per replica": QueueRule(5.0, Limits(least, most)),
        "no autoscaler, replicas for the peak": None,
    }


def _written(scaling: Scaling) -> RateRule:
    return RateRule.of(yaml.safe_load(autoscaling_files("vllm-chat", "chat", scaling)[KEDA]))


def scaling_for(capacity: Estimate) -> Scaling:
    """The scaling that `optimize.deploy` computes for the peak of the loads."""
    return Scaling(HIGH_PER_S, capacity, Autoscale(), 1, START_S)


def replayed(rule: Rule | None, scaling: Scaling, load: Load, end_s: float, seed: int) -> Outcome:
    """One replay of a load under a rule, which begins with the replicas for the low rate or all of them."""
    requests = requests_of(load, end_s, seed)
    first = math.ceil(LOW_PER_S / scaling.per_replica_per_s)  # the warm-up is long enough for every rule to settle
    fleet = Fleet(copy.deepcopy(rule), scaling.replicas if rule is None else first)
    fleet.replay(requests, end_s, seed)
    return outcome(fleet, requests, end_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="replays of each load under each rule, other seeds")
    repeats = parser.parse_args().repeats
    scaling = scaling_for(capacity_of_a_replica())
    outcomes = {
        name: {
            title: [replayed(rule, scaling, load, end_s, seed) for seed in range(repeats)]
            for title, rule in rules_for(scaling).items()
        }
        for name, (load, end_s) in LOADS.items()
    }
    drawn = {name: {title: some[title][0].serving for title in _DRAWN} for name, some in outcomes.items()}
    draw(drawn, scaling, RESULTS.parent / "images" / "autoscaling.png")
    sections = [_head(scaling, repeats), "![Replicas over time](../images/autoscaling.png)"]
    sections += [_section(name, some, LOADS[name][0]) for name, some in outcomes.items()]
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
            f"{SEQUENCES} at once; answers have {TOKENS:g} tokens on average (lognormal), arrivals are Poisson, and "
            f"any replica that serves may get a request. The objective: {100 * SHARE:g} % of requests with a first "
            f"token within {TTFT_S:g} s and at most {1000 * TPOT_S:g} ms per token. One replica keeps it up to "
            f"{capacity.value:.2f} requests/s (bisection over runs of {_CAPACITY_RUN_S:g} s; taken as "
            f"{capacity.low:.2f} to {capacity.high:.2f}). A replica serves {START_S:g} s after its creation, "
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
            title, _shown([100 * o.share for o in some], " %"), _shown([o.broken_minutes for o in some]),
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
    rows = [["requests/s", *(f"{load(WARM_S + 60 * mark):.3g}" for mark in marks)]]
    rows += [[title, *(str(some[0].serving[mark]) for mark in marks)] for title, some in outcomes.items()]
    lines = [markdown_line(row) for row in (head, ["---"] * len(head), *rows)]
    return ["Replicas that serve, in the first replay:", "", *lines]


def _shown(values: Sequence[float], unit: str = "") -> str:
    mean, least, most = (f"{value:.3g}" for value in (statistics.fmean(values), min(values), max(values)))
    return f"{mean}{unit}" if least == most else f"{mean} ({least}–{most}){unit}"


if __name__ == "__main__":
    main()
