"""Do 95 % intervals cover the truth 95 % of the time? On simulated queues whose truth is known.

Usage: python -m benchmarks.coverage [--runs 1000]

Two queues with one exponential server: Poisson arrivals (M/M/1), and Poisson arrivals of batches of geometric size
(M[X]/M/1), as when an agent fires several requests at once. In both, the time in the system is exponential: with
service rate mu, batches at rate b and mean batch size m, its rate is mu / m - b.
And users who are answered in step, a batch of the engine at a time, and ask again at once: beams, and small loads.
Sources: Kleinrock, "Queueing Systems", volume 1, 1975, sections 3.2 and 5.12 (M/M/1); of geometric batches the total
service is exponential with rate mu / m, and so is that of a random member and those before it in its batch.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, provenance
from objectives.intervals import mean_interval, proportion_interval, quantile_interval, rate_interval

_LEAD_SAMPLES, _MARGIN = 200, 1.3
Interval = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Queue:
    """Attributes: name: For people. batches_per_s: Arrivals. batch: Mean batch size. served_per_s: Of the server."""

    samples: ClassVar[Sequence[int]] = (300, 1000, 3000, 10_000, 30_000, 100_000)
    name: str
    batches_per_s: float
    batch: float
    served_per_s: float

    @property
    def rate_per_s(self) -> float:
        return self.batches_per_s * self.batch

    @property
    def mean_s(self) -> float:
        return 1 / (self.served_per_s / self.batch - self.batches_per_s)

    @property
    def p99_s(self) -> float:
        return self.mean_s * math.log(100)

    def simulate(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """About n requests in steady state from second 0 on.

        Returns:
            (when each was due, how long it took), in the order in which they were due.
        """
        sizes = rng.geometric(1 / self.batch, size=max(1, round(n / self.batch)))
        gaps = rng.exponential(1 / self.batches_per_s, size=len(sizes))
        services = rng.exponential(1 / self.served_per_s, size=int(sizes.sum()))
        ends = np.cumsum(sizes)
        work = np.add.reduceat(services, np.concatenate([[0], ends[:-1]]))
        # What the first batch finds: nothing, or an exponential amount of work.
        load = self.rate_per_s / self.served_per_s
        backlog = rng.exponential(self.mean_s) if rng.random() < load else 0.0
        steps = np.concatenate([[backlog], work[:-1] - gaps[1:]]).cumsum()  # Lindley's recursion, unrolled
        waits = steps - np.minimum(np.minimum.accumulate(steps), 0.0)
        within = np.cumsum(services) - np.repeat(np.cumsum(work) - work, sizes)
        return np.repeat(np.cumsum(gaps), sizes), np.repeat(waits, sizes) + within

    @property
    def truth(self) -> dict[str, float]:
        return {"rate": self.rate_per_s, "mean latency": self.mean_s, "P99 latency": self.p99_s}

    def figures(self, n: int, rng: np.random.Generator) -> dict[str, Interval]:
        """As the objectives make them of a window in which n requests are expected, somewhere in a longer load."""
        start_s = _LEAD_SAMPLES / self.rate_per_s
        end_s = start_s + n / self.rate_per_s
        due_s, took_s = self.simulate(_LEAD_SAMPLES + round(_MARGIN * n) + _LEAD_SAMPLES, rng)
        done_s, latencies = due_s + took_s, took_s[(due_s >= start_s) & (due_s < end_s)].tolist()
        return {
            "rate": rate_interval(done_s[(done_s >= start_s) & (done_s < end_s)].tolist(), start_s, end_s),
            "mean latency": mean_interval(latencies),
            "P99 latency": quantile_interval(latencies, 0.99),
        }


@dataclass(frozen=True, slots=True)
class InStep:
    """Attributes: name: For people. users: Answered at once. step_s: Mean time until then. spread: Its deviation, as a
    share of the mean."""

    samples: ClassVar[Sequence[int]] = (16, 24, 40, 100, 300)
    name: str
    users: int
    step_s: float
    spread: float

    @property
    def truth(self) -> dict[str, float]:
        return {"rate": self.users / self.step_s}

    def figures(self, n: int, rng: np.random.Generator) -> dict[str, Interval]:
        """Of a window in which n answers are expected, and which begins anywhere in a step."""
        window_s = n * self.step_s / self.users
        steps = rng.normal(self.step_s, self.spread * self.step_s, size=round(2 * n / self.users) + 10)
        ends_s = np.cumsum(steps) - rng.uniform(0, self.step_s)
        within = ends_s[(ends_s >= 0) & (ends_s < window_s)]
        return {"rate": rate_interval(np.repeat(within, self.users).tolist(), 0.0, window_s)}


QUEUES: tuple[Queue | InStep, ...] = (
    Queue("M/M/1, 30 % busy", 3.0, 1.0, 10.0),
    Queue("M/M/1, 70 % busy", 7.0, 1.0, 10.0),
    Queue("batches of 4 on average, 60 % busy", 1.5, 4.0, 10.0),
    InStep("4 users in step, steps vary by 5 %", 4, 2.0, 0.05),
    InStep("4 users in step, steps vary by 30 %", 4, 2.0, 0.30),
)


def coverage(queue: Queue | InStep, n: int, runs: int) -> dict[str, tuple[int, float]]:
    """Figure -> (runs whose interval covers the truth, median half-width as a share of the truth)."""
    rng, truth = np.random.default_rng(n), queue.truth
    covered = dict.fromkeys(truth, 0)
    widths: dict[str, list[float]] = {name: [] for name in truth}
    for _ in range(runs):
        for name, (_, low, high) in queue.figures(n, rng).items():
            covered[name] += low <= truth[name] <= high
            widths[name].append((high - low) / 2 / truth[name])
    return {name: (covered[name], float(np.median(widths[name]))) for name in truth}


def table(runs: int, say: Callable[[str], None]) -> str:
    lines = ["| queue | requests | figure | covered | half-width, median |", "|---|---|---|---|---|"]
    for queue in QUEUES:
        for n in queue.samples:
            for name, (hits, width) in coverage(queue, n, runs).items():
                share, low, high = proportion_interval(hits, runs)
                lines.append(
                    f"| {queue.name} | {n} | {name} | {share:.1%} [{low:.1%}, {high:.1%}] | {width:.1%} of the truth |"
                )
                say(lines[-1])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    text = table(runs, print)
    head = "# Coverage of the intervals\n\n" + provenance(f"python -m benchmarks.coverage --runs {runs}")
    what = f"Simulated queues, {runs} runs each; nothing here is a figure of an engine."
    (RESULTS / "coverage.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
