"""False alarms and delays of `optimize.drift` on made-up traffic: writes docs/results/drift.md.

    python -m benchmarks.drift_simulated [runs]

Simulated: no engine runs. A study of made-up traffic makes the claims, and made-up minutes are judged by them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import numpy as np
from scipy.special import gammaincinv

from benchmarks.common import RESULTS, processes
from optimize.drift.claims import Claim, claims_of
from optimize.drift.detector import threshold
from optimize.engine.traffic import Traffic
from optimize.formatting import markdown_line
from optimize.testing.made_up_traffic import TIME_EDGES, TOKEN_EDGES, TrafficModel, readings, synthetic_reference

ALARM_DAYS, MARGIN, TOGETHER, DAY = 100, 0.25, 4, 1440
RUNS, LONGEST_DAYS = 6, 7
KINDS: dict[str, Callable[[int], TrafficModel]] = {
    "independent requests; arrivals at night a fifth of those at noon": lambda hour: TrafficModel(),
    "the same, requests in groups of 4 that are alike": lambda hour: TrafficModel(together=4),
    "the same, prompts and answers 10 % longer by day and shorter by night": lambda hour: TrafficModel().times(
        prompt_tokens=1 + _swing(hour, 0.1), output_tokens=1 + _swing(hour, 0.1)
    ),
    "the same, an engine 30 % faster by night": lambda hour: TrafficModel().times(
        **{name: 1 - 0.15 + _swing(hour, 0.15) for name in TIME_EDGES}
    ),
}
"""Unchanged traffic by hour of the day."""
CHANGES: dict[str, tuple[dict[str, float], str]] = {
    "prompts 1.25 times as long": ({"prompt_tokens": 1.25}, "prompt_tokens"),
    "prompts 1.5 times as long": ({"prompt_tokens": 1.5}, "prompt_tokens"),
    "prompts twice as long": ({"prompt_tokens": 2.0}, "prompt_tokens"),
    "prompts half as long": ({"prompt_tokens": 0.5}, "prompt_tokens"),
    "answers 1.25 times as long": ({"output_tokens": 1.25}, "output_tokens"),
    "answers 1.5 times as long": ({"output_tokens": 1.5}, "output_tokens"),
    "arrivals 1.5 times the study's": ({"rate_per_s": 1.5}, "arrivals"),
    "arrivals twice the study's": ({"rate_per_s": 2.0}, "arrivals"),
    "half of the cached share": ({"cached": 0.5}, "cached_prefix_share"),
    "time per token 1.15 times the study's": ({"tpot_s": 1.15}, "mean tpot_s"),
    "time per token 1.3 times the study's": ({"tpot_s": 1.3}, "mean tpot_s"),
    "latency 1.25 times the study's": ({"latency_s": 1.25}, "mean latency_s"),
    "latency 1.5 times the study's": ({"latency_s": 1.5}, "mean latency_s"),
}
"""Change -> (factors, the claim that it refutes)."""
RATES = (0.05, 0.5, 5.0)


def _swing(hour: int, size: float) -> float:
    return size * float(np.cos(2 * np.pi * (hour - 12) / 24))


class Monitor:
    """All detectors of a study's claims, fed reading by reading."""

    def __init__(self, kind: TrafficModel, rng: np.random.Generator) -> None:
        edges = {name: TIME_EDGES.get(name, TOKEN_EDGES) for name in kind.medians}
        claims: Sequence[Claim] = claims_of(synthetic_reference(kind, rng), edges, MARGIN)
        self._watches = [(claim.name, watch, watch.detector(TOGETHER)) for claim in claims for watch in claim.watches]
        self._limit = threshold(len(self._watches), ALARM_DAYS * DAY)

    @property
    def size(self) -> int:
        return len(self._watches)

    def add(self, reading: Traffic) -> set[str]:
        """The claims that are refuted by now."""
        alarms = set()
        for name, watch, detector in self._watches:
            counts = watch.count(reading)
            if counts is not None and detector.add(reading.at, *counts) >= self._limit:
                alarms.add(name)
        return alarms


def by_hours(
    kind_at: Callable[[int], TrafficModel], rng: np.random.Generator, hours: Iterable[int]
) -> Iterator[Traffic]:
    for hour in hours:
        yield from readings(kind_at(hour % 24), 60, rng, begin=60 * hour)


def false_alarms(name: str, seed: int) -> int:
    """Number of claims that 100 days of unchanged traffic refute."""
    rng = np.random.default_rng([1, seed, list(KINDS).index(name)])
    monitor, alarms = Monitor(TrafficModel(), rng), set[str]()
    for reading in by_hours(KINDS[name], rng, range(24 * ALARM_DAYS)):
        alarms |= monitor.add(reading)
    return len(alarms)


def delay(change: str, rate_per_s: float, seed: int) -> float | None:
    """Minutes from a change at noon to the alarm of the right claim, after a day of unchanged traffic."""
    factors, claim = CHANGES[change]
    rng = np.random.default_rng([2, seed, list(CHANGES).index(change)])
    usual = replace(TrafficModel(), rate_per_s=rate_per_s)
    monitor = Monitor(usual, rng)
    for reading in by_hours(lambda _: usual, rng, range(-12, 12)):
        monitor.add(reading)
    changed = by_hours(lambda _: usual.times(**factors), rng, count(12))
    for minutes, reading in zip(range(1, LONGEST_DAYS * DAY), changed, strict=False):
        if claim in monitor.add(reading):
            return float(minutes)
    return None


@dataclass(frozen=True)
class Delays:
    """Minutes until detection, of the runs that detected the change, and the number of all runs."""

    minutes: Sequence[float]
    runs: int

    def in_words(self) -> str:
        if 2 * len(self.minutes) < self.runs:
            return f"{len(self.minutes)} of {self.runs} within {LONGEST_DAYS} days"
        words = f"{_span(statistics.median(self.minutes))} (at most {_span(max(self.minutes))})"
        return words if len(self.minutes) == self.runs else f"{words}, {len(self.minutes)} of {self.runs}"


def _span(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def measured_delays(pool: ProcessPoolExecutor, runs: int) -> dict[tuple[str, float], Delays]:
    jobs = {
        (change, rate): [pool.submit(delay, change, rate, seed) for seed in range(runs)]
        for change in CHANGES
        for rate in RATES
    }
    results = {key: [job.result() for job in each] for key, each in jobs.items()}
    return {key: Delays([m for m in each if m is not None], runs) for key, each in results.items()}


def page(alarms: Mapping[str, Sequence[int]], delays: Mapping[tuple[str, float], Delays], size: int) -> str:
    lines = [
        "# Drift: false alarms and delays", "",
        f"Simulated on {datetime.now(UTC):%Y-%m-%d} with `python -m benchmarks.drift_simulated`: made-up traffic and a "
        f"made-up study of 300 requests, no engine. One reading a minute, {size} bounds watched together, "
        f"`drift.alarm_days={ALARM_DAYS}`, `drift.margin={MARGIN}`, `drift.together={TOGETHER}`.", "",
        "## Unchanged traffic (simulated)", "",
        f"Promised: at most one false alarm in {ALARM_DAYS} days.", "",
        markdown_line(["traffic", "days", f"false alarms in {ALARM_DAYS} days (95 % upper bound)"]),
        markdown_line(["---"] * 3),
    ]  # fmt: skip
    for name, counts in alarms.items():
        mean, upper = sum(counts) / len(counts), float(gammaincinv(sum(counts) + 1, 0.95)) / len(counts)
        lines.append(markdown_line([name, f"{ALARM_DAYS * len(counts):,}", f"{mean:.2f} ({upper:.2f})"]))
    lines += [
        "", "## Delay after a change at noon (simulated)", "",
        "Median of the runs, and the longest; requests per second at noon, at night a fifth of it.", "",
        markdown_line(["change", *(f"{rate:g}/s" for rate in RATES)]), markdown_line(["---"] * (1 + len(RATES))),
    ]  # fmt: skip
    lines += [markdown_line([c, *(delays[c, rate].in_words() for rate in RATES)]) for c in CHANGES]
    return "\n".join(lines) + "\n"


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with processes() as pool:
        delays = measured_delays(pool, runs)
        jobs = {name: [pool.submit(false_alarms, name, seed) for seed in range(runs)] for name in KINDS}
        alarms = {name: [job.result() for job in each] for name, each in jobs.items()}
    text = page(alarms, delays, Monitor(TrafficModel(), np.random.default_rng(0)).size)
    (RESULTS / "drift.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
