"""How often the guard is wrong, and how soon it is right, on made-up rounds with the noise of live ones.

Usage: python -m benchmarks.guard_simulated [--guards 2000]

No engine: each guard is the real loop with its comparison, on a virtual clock, and figures are drawn. Noise is that of
single measurements within a round (docs/results/same.md): "quiet" is a machine whose measurements vary by 4 %,
"usual" is the machine of the results, "rough" the same with one measurement in ten that something else disturbed.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import RESULTS, processes, simulated_by
from objectives import Direction, Estimate
from objectives.intervals import proportion_interval
from optimize.guard.change import Change, Verdict
from optimize.guard.comparison import Comparison
from optimize.guard.rounds import RoundLoop
from optimize.guard.sides import OTHER
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.testing.scripted_load import VirtualClock

MARGIN, MINUTES, MEASUREMENT_S, RUNS, DRIFT = 0.05, 20.0, 18.0, 5, 0.1
DIRECTIONS = {
    "qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE, "memory_bytes": Direction.MINIMIZE,
    "bleu": Direction.MAXIMIZE,
}  # fmt: skip
EQUAL_ANSWERS = Change(0.0, 0.0, float("inf"), 0.0, Direction.MAXIMIZE, False)
Noise = Mapping[str, float]
MACHINES: dict[str, Noise] = {
    "quiet": {"qps": 0.04, "p99_latency_s": 0.06, "memory_bytes": 0.003, "disturbed": 0.0},
    "usual": {"qps": 0.07, "p99_latency_s": 0.17, "memory_bytes": 0.005, "disturbed": 0.0},
    "rough": {"qps": 0.07, "p99_latency_s": 0.17, "memory_bytes": 0.005, "disturbed": 0.1},
}
"""Machine -> standard deviation of a figure's logarithm, and share of measurements at half the speed or better."""
SLOWER = {"the same": 1.0, "5 % slower, as the margin allows": 0.95, "10 % slower": 0.9, "20 % slower": 0.8}


@dataclass
class MadeUpSide:
    """Figures of a side, drawn.

    Attributes:
        speed: Its speed as a multiple of the row's.
        noise: Of the machine.
        rng: The source of chance.
        clock: Takes the time of a measurement.
        drift: Speed of the machine in the round.
    """

    speed: float
    noise: Noise
    rng: random.Random
    clock: VirtualClock
    drift: dict[int, float] = field(default_factory=dict)

    def measure(self, side: str, number: int) -> TrialRecord:
        self.clock.sleep(MEASUREMENT_S)
        drift = self.drift.setdefault(number, self.rng.lognormvariate(0, DRIFT))
        disturbed = self.rng.uniform(0.5, 1.0) if self.rng.random() < self.noise["disturbed"] else 1.0
        speed = drift * disturbed * (self.speed if side == OTHER else 1.0)
        values = {"qps": 20 * speed, "p99_latency_s": 0.5 / speed, "memory_bytes": 6e6}
        noisy = {name: value * self.rng.lognormvariate(0, self.noise[name]) for name, value in values.items()}
        estimates = {name: Estimate(value, value, value, 1, "") for name, value in noisy.items()}
        return TrialRecord("s", 0, Role.MEASUREMENT, {}, {}, {}, state=State.COMPLETED, estimates=estimates)


@dataclass(frozen=True)
class Result:
    """One guard: its verdict, that on the rate alone, its rounds, and what a rule of five runs says of the rate."""

    verdict: Verdict
    rate: Verdict
    rounds: int
    five: Verdict


def guard(machine: str, speed: float, seed: int) -> Result:
    """One guard on made-up rounds."""
    clock = VirtualClock()
    side = MadeUpSide(speed, MACHINES[machine], random.Random(f"{machine}-{speed}-{seed}"), clock)
    comparison = Comparison(DIRECTIONS, dict.fromkeys(DIRECTIONS, MARGIN))
    loop = RoundLoop(comparison, side.measure, lambda: {"bleu": EQUAL_ANSWERS}, 60 * MINUTES, clock, seed)
    loop.run()
    return Result(
        loop.verdict, comparison.judgements["qps"].verdict, comparison.rounds, five_runs(machine, speed, seed)
    )


def five_runs(machine: str, speed: float, seed: int) -> Verdict:
    """What a fixed rule says: five runs of one side, then five of the other, FAIL where their mean is beyond 5 %."""
    side = MadeUpSide(speed, MACHINES[machine], random.Random(f"five-{machine}-{speed}-{seed}"), VirtualClock())
    row, other = (
        [side.measure(name, first + n).estimates["qps"].value for n in range(RUNS)]
        for name, first in (("row", 0), (OTHER, RUNS))
    )
    return Verdict.FAIL if statistics.fmean(other) < (1 - MARGIN) * statistics.fmean(row) else Verdict.PASS


def guards(task: tuple[str, float, int]) -> list[Result]:
    """So many guards of one machine and one speed."""
    machine, speed, count = task
    return [guard(machine, speed, seed) for seed in range(count)]


def share(results: list[Verdict], verdict: Verdict) -> str:
    hits, n = sum(v is verdict for v in results), len(results)
    value, low, high = proportion_interval(hits, n)
    return f"{100 * value:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def line(machine: str, name: str, results: list[Result]) -> str:
    rounds = sorted(r.rounds for r in results)
    minutes = statistics.median(rounds) * 2 * MEASUREMENT_S / 60
    whole, rate = [r.verdict for r in results], [r.rate for r in results]
    cells = [
        machine, name, *(share(whole, v) for v in (Verdict.PASS, Verdict.FAIL)),
        *(share(rate, v) for v in (Verdict.PASS, Verdict.FAIL)), f"{statistics.median(rounds):.0f}", f"{minutes:.0f}",
        share([r.five for r in results], Verdict.FAIL),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guards", type=int, default=2000)
    count = parser.parse_args().guards
    tasks = [(machine, speed, count) for machine in MACHINES for speed in SLOWER.values()]
    names = [(machine, name) for machine in MACHINES for name in SLOWER]
    with processes() as pool:
        lines = [line(*name, results) for name, results in zip(names, pool.map(guards, tasks), strict=True)]
    head = (
        "| machine | other side | release passes | release fails | rate passes | rate fails | rounds, median | "
        "minutes | five runs a side, beyond 5 %: rate fails |"
    )
    text = "\n".join([head, "|---" * 9 + "|", *lines])
    print(text)
    (Path(RESULTS) / "guard_simulated.md").write_text(page(count, text), encoding="utf-8")


def page(count: int, table: str) -> str:
    noise = "; ".join(
        f"{name}: rate {100 * m['qps']:.0f} %, P99 {100 * m['p99_latency_s']:.0f} %"
        + (f", {100 * m['disturbed']:.0f} % of measurements slowed by up to half" if m["disturbed"] else "")
        for name, m in MACHINES.items()
    )
    return (
        "# The guard on made-up rounds\n\n"
        f"{simulated_by(f'python -m benchmarks.guard_simulated --guards {count}')}\n\n"
        f"{count} guards of each line. No engine runs: figures are drawn, and no figure here is a measurement. A guard "
        f"has {MINUTES:g} minutes, a measurement takes {MEASUREMENT_S:g} s, the margin of all four objectives is "
        f"{100 * MARGIN:g} %. Standard deviation of a measurement within a round: {noise}.\n"
        f"The machine's speed varies by {100 * DRIFT:g} % from round to round.\n\n{table}\n\n"
        "- **A wrong FAIL** is one in the first two lines of each machine: the same release, and one that is as slow "
        "as the margin allows.\n"
        "- **The release passes** only if its P99 does, too: where a measurement of that varies by 17 %, twenty "
        "minutes do not show that it is within 5 %. The rate alone is beside it.\n"
        "- **Five runs a side** stands for rules that compare means with a threshold, one side after the other: what "
        "the machine does meanwhile, they take for the release.\n"
    )


if __name__ == "__main__":
    main()
