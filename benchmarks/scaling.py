"""How far one coordinator goes: 8, 64 and 1,000 engines, simulated with measured times.

Usage: python -m benchmarks.scaling

A simulation, no measurement: engines that each take a measured trial's time, one coordinator that asks and tells one
trial after the other in the times of `docs/results/coordinator.json`, and one mirror to MLflow behind it. Writes
`docs/results/scaling.md`; every figure in it says that it is simulated.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common import RESULTS, provenance
from benchmarks.coordinator import per_second

ENGINES = (8, 64, 1000)
OVERHEAD_S, MEASURING_S = 4.83, 11.62
"""Of a trial of the demo's, wall seconds, starts included; docs/results/trial_cost.md."""
_SPREAD = 0.25
_TRIALS_PER_ENGINE = 30


@dataclass(frozen=True)
class Costs:
    """Seconds that a trial takes of each resource that exists once.

    Attributes:
        coordinator_s: Asking and telling.
        mirror_s: MLflow, behind the coordinator.
    """

    coordinator_s: float
    mirror_s: float


@dataclass(frozen=True)
class Simulation:
    """A simulated study.

    Attributes:
        per_s: Trials per second.
        busy: Share of the time that engines are at work.
        coordinator: Share of the time that the coordinator is.
        behind_s: How far MLflow is behind when the last trial is told.
    """

    per_s: float
    busy: float
    coordinator: float
    behind_s: float


def simulate(engines: int, trial_s: float, costs: Costs, trials: int, seed: int = 0) -> Simulation:
    """A study from its first ask to its last trial told.

    Args:
        engines: How many measure at a time.
        trial_s: Median seconds of a trial on its engine.
        costs: Of the coordinator and what is behind it.
        trials: How many.
        seed: Of the trials' lengths, which are spread log-normally.
    """
    rng = random.Random(seed)
    waiting: list[tuple[float, int]] = [(0.0, engine) for engine in range(engines)]  # (idle since, engine)
    now_s = working_s = mirror_s = 0.0
    ends, starts = 0, 0
    while ends < trials:
        since_s, engine = heapq.heappop(waiting)
        now_s = max(now_s, since_s) + costs.coordinator_s  # tells what the engine has done, and asks for it again
        if starts > ends and since_s > 0:
            ends += 1
            mirror_s = max(mirror_s, now_s) + costs.mirror_s
        if starts < trials:
            starts += 1
            took_s = trial_s * math.exp(rng.gauss(0.0, _SPREAD))
            working_s += took_s
            heapq.heappush(waiting, (now_s + took_s, engine))
    return Simulation(
        per_s=trials / now_s,
        busy=working_s / (engines * now_s),
        coordinator=min(1.0, costs.coordinator_s * trials / now_s),
        behind_s=max(0.0, mirror_s - now_s),
    )


def costs_of(row: Mapping[str, Any]) -> Costs:
    """Cost of a trial late in a measured study of the coordinator alone."""
    return Costs(1 / per_second(row), row["mirror_s"])


def table(measured: Mapping[str, Mapping[str, Any]], trial_s: float) -> str:
    lines = [
        "| storage, sampler (engines that costs were measured with) | engines | trials per second | engines at work | "
        "coordinator at work | "
        "limit of the coordinator | MLflow behind at the end |",
        "|---" * 7 + "|",
    ]
    for rows in kinds_of(measured):
        for engines in ENGINES:
            row = row_for(engines, rows)
            costs = costs_of(row)
            result = simulate(engines, trial_s, costs, _TRIALS_PER_ENGINE * engines)
            lines.append(
                f"| {row['storage']}, {row['sampler']} ({row['workers']}) | {engines} | "
                f"{result.per_s:.2f} (simulated) | "
                f"{result.busy:.0%} (simulated) | {result.coordinator:.0%} (simulated) | "
                f"{trial_s / costs.coordinator_s:.0f} engines (computed) | {result.behind_s:.0f} s (simulated) |"
            )
    return "\n".join(lines)


def kinds_of(measured: Mapping[str, Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of each storage and sampler."""
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in measured.values():
        kinds.setdefault((row["storage"], row["sampler"]), []).append(row)
    return list(kinds.values())


def row_for(engines: int, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row with as many engines, or the nearest below."""
    below = [row for row in rows if row["workers"] <= engines]
    return max(below or rows, key=lambda row: row["workers"])


def main() -> None:
    measured = json.loads((RESULTS / "coordinator.json").read_text(encoding="utf-8"))
    trial_s = OVERHEAD_S + MEASURING_S
    text = table(measured, trial_s)
    print(text)
    what = (
        f"Simulated: each engine takes {trial_s:.2f} s a trial in the median ({OVERHEAD_S} s of start and overhead, "
        f"{MEASURING_S} s of measuring: measured, trial_cost.md), spread log-normally by {_SPREAD:.0%}; one "
        f"coordinator asks and tells in the time that a trial took with as many stub engines, or the most measured "
        f"(measured, coordinator.md); {_TRIALS_PER_ENGINE} trials per engine. What a trial costs is held "
        "constant: really it grows with the number of trials. *Limit*: engines at which the coordinator has no pause."
    )
    source = provenance("python -m benchmarks.scaling").replace("Measured", "Simulated")
    sections = ["# How far one coordinator goes (simulated)", source, what, text]
    (RESULTS / "scaling.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
