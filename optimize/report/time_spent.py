"""Time spent by a study: what a trial costs beyond its measurement."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from optimize.capacity import Capacity
from optimize.engine.startup import phases_in
from optimize.formatting import percent
from optimize.ledger import TrialRecord
from optimize.load.pace import Pace
from optimize.outcome import Role, State

_UNDER_LOAD = ("repeated", "first_answer", "warmup", "window", "drain")


@dataclass(frozen=True, slots=True)
class Costs:
    """Times of the measured trials of one study; a median is None if there was no such trial.

    Attributes:
        trials: Number of measured trials.
        new_engines: Number of those that started an engine.
        wall_s: Sum of the seconds from ask to tell.
        measuring_s: Part of them under load: first answers, warm-up, window, drain, and repeated measurements.
        overhead_new_s: Median seconds of a trial that started an engine, less measuring and the sampler's time.
        overhead_live_s: The same on a live engine.
        thinking_s: Median seconds of the sampler.
        confirming_s: Sum of the seconds from ask to tell of the confirmation's trials, which the others leave out.
        scoring_s: Part of `wall_s` in which the engines scored quality after the load (perplexity, tasks).
    """

    trials: int
    new_engines: int
    wall_s: float
    measuring_s: float
    overhead_new_s: float | None
    overhead_live_s: float | None
    thinking_s: float
    confirming_s: float = 0.0
    scoring_s: float = 0.0

    def metrics(self) -> dict[str, float]:
        """Metric key -> value, for the tracker."""
        figures = {
            "cost/wall_s": self.wall_s, "cost/measuring_s": self.measuring_s, "cost/new_engines": self.new_engines,
            "cost/overhead_new_s": self.overhead_new_s, "cost/overhead_live_s": self.overhead_live_s,
            "cost/thinking_s": self.thinking_s, "cost/confirming_s": self.confirming_s,
            "cost/scoring_s": self.scoring_s,
        }  # fmt: skip
        return {name: float(value) for name, value in figures.items() if value is not None}

    def in_words(self) -> str:
        """One line."""
        head = (
            f"time: {self.trials} measured trials took {self.wall_s / 60:.1f} min, "
            f"{percent(self.measuring_s / self.wall_s)} of it under load; median overhead of a trial: "
        )
        parts = []
        if self.overhead_new_s is not None:
            parts.append(f"{self.overhead_new_s:.1f} s with a new engine ({self.new_engines} trials)")
        if self.overhead_live_s is not None:
            parts.append(f"{self.overhead_live_s:.1f} s on a live engine ({self.trials - self.new_engines} trials)")
        parts.append(f"{self.thinking_s:.1f} s for the sampler")
        confirming = f"; the confirmation took {self.confirming_s / 60:.1f} min" if self.confirming_s else ""
        scoring = f"; the engines scored quality for {self.scoring_s:.0f} s of it" if self.scoring_s >= 1 else ""
        return head + ", ".join(parts) + scoring + confirming


def costs_of(records: Iterable[TrialRecord]) -> Costs | None:
    """Costs of the measured trials among these; None if there are none."""
    timed = [r for r in records if "wall" in r.seconds]
    measured = [r for r in timed if r.state == State.COMPLETED and r.role != Role.CONFIRMATION]
    if not measured:
        return None
    return Costs(
        trials=len(measured),
        new_engines=sum(r.new_engine for r in measured),
        wall_s=sum(r.seconds["wall"] for r in measured),
        measuring_s=sum(map(measuring_s, measured)),
        overhead_new_s=_median(_overhead_s(r) for r in measured if r.new_engine),
        overhead_live_s=_median(_overhead_s(r) for r in measured if not r.new_engine),
        thinking_s=statistics.median(r.seconds["ask"] for r in measured),
        confirming_s=sum(r.seconds["wall"] for r in timed if r.role == Role.CONFIRMATION),
        scoring_s=sum(r.seconds.get("scoring", 0.0) for r in measured),
    )


def start_phases_s(records: Iterable[TrialRecord]) -> dict[str, float]:
    """Phase of an engine's start -> median seconds, over the trials whose start went through it."""
    starts = [phases_in(r.seconds) for r in records]
    phases = dict.fromkeys(phase for start in starts for phase in start)
    return {phase: statistics.median(start[phase] for start in starts if phase in start) for phase in phases}


def windows_in_words(records: Iterable[TrialRecord]) -> str:
    """How long the windows of the measured trials were and what closed them, in one line; empty without any."""
    measured = [r for r in records if r.state == State.COMPLETED and "window" in r.seconds]
    if not measured:
        return ""
    searches = [Capacity.from_dict(r.capacity) for r in measured if r.capacity]
    if searches:
        probes, load_s = (
            statistics.median(x) for x in ([len(c.probes) for c in searches], [c.load_s for c in searches])
        )
        return f"searches for the capacity: {probes:.0f} probes and {load_s:.0f} s of load in the median"
    seconds = [r.seconds["window"] for r in measured]
    shortest, longest = f"{min(seconds):.0f}", f"{max(seconds):.0f} s"
    lengths = longest if longest.startswith(f"{shortest} ") else f"{shortest} to {longest}"
    pace = next((pace for r in measured if (pace := Pace.from_dict(r.pace))), None)
    rule = pace.in_words(max(seconds)) if pace is not None else ""
    return "; ".join(filter(None, (f"windows: {lengths} long, {statistics.median(seconds):.1f} s in the median", rule)))


def measuring_s(record: TrialRecord) -> float:
    """Seconds a measured trial spent under load: first answers, warm-up, window, drain, and repeated measurements."""
    return sum(record.seconds.get(name, 0.0) for name in _UNDER_LOAD)


def _overhead_s(record: TrialRecord) -> float:
    return record.seconds["wall"] - record.seconds["ask"] - measuring_s(record)


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return statistics.median(listed) if listed else None
