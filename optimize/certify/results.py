"""The result of one run of a certification, as kept on disk and mirrored to MLflow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives import Estimate
from objectives.intervals import repeats_interval
from optimize.files import write_atomically

FILE = "found.json"
UNITS = {
    "detection_s": "s", "down_s": "s", "recovery_s": "s", "normal_p99_s": "s", "longest_s": "s", "requests": "",
    "lost": "", "retried": "", "delayed": "", "restarts": "", "orphans": "", "preemptions": "", "rate_per_s": "1/s",
    "capacity_per_s": "1/s", "sustained_per_s": "1/s", "peak_answered_per_s": "1/s", "peak_p99_s": "s",
    "waiting_max": "", "breaking_per_s": "1/s",
}  # fmt: skip


@dataclass
class FaultResult:
    """Result of one run.

    Attributes:
        scenario: Name of the scenario.
        mitigated: Whether the mitigation was in place.
        repeat: Number of the repetition, from 0.
        figures: Name -> figure; figures that do not apply are left out.
        words: Name -> text, e.g. "who" was affected.
        notes: Remarks on the run.
        doubts: Failed checks of the client's own audit.
        disturbed: Disturbances of the measurement by other programs.
        tables: Name -> rows of figures of the stress test.
        error: Why the run has no figures, e.g. a missing permission.
        date: UTC date and time.
    """

    scenario: str
    mitigated: bool
    repeat: int
    figures: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    error: str = ""
    date: str = ""

    @property
    def key(self) -> tuple[str, bool, int]:
        return self.scenario, self.mitigated, self.repeat

    def estimates(self) -> dict[str, Estimate]:
        """Each figure as an estimate from one reading."""
        return {n: Estimate(v, v, v, 1, UNITS.get(n, "")) for n, v in self.figures.items()}

    def write(self, folder: Path) -> None:
        write_atomically(folder / FILE, json.dumps(dataclasses.asdict(self), indent=1))


def read_all(folder: Path) -> Iterator[FaultResult]:
    """Results of all runs below a folder, in order."""
    for path in sorted(folder.glob(f"trials/*/{FILE}")):
        yield FaultResult(**json.loads(path.read_text(encoding="utf-8")))


def over_repeats(runs: Sequence[FaultResult], name: str) -> Estimate | None:
    """Mean of a figure over the runs that have it, with Student's interval; None where no run has it."""
    values = [r.figures[name] for r in runs if name in r.figures]
    if not values:
        return None
    return mean_of(values, UNITS.get(name, ""))


def mean_of(values: Sequence[float], unit: str) -> Estimate:
    """Mean over repetitions with Student's interval, of width zero for equal values. No figure here is negative."""
    if len(set(values)) == 1:
        return Estimate(values[0], values[0], values[0], len(values), unit)
    value, low, high = repeats_interval(values)
    return Estimate(value, max(0.0, low), high, len(values), unit)


def grouped(runs: Sequence[FaultResult]) -> Mapping[tuple[str, bool], list[FaultResult]]:
    """(scenario, mitigated) -> runs."""
    groups: dict[tuple[str, bool], list[FaultResult]] = {}
    for run in runs:
        groups.setdefault((run.scenario, run.mitigated), []).append(run)
    return groups
