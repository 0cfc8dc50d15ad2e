"""The live table as ground truth: the figures of its points, as means over their repeats.

A point is worth the mean over its repeats, of logarithms where ratios matter; its BLEU is that of all answers of its
quantization and beam, for on nothing else do answers depend. The hypervolume is that of the feasible points among
some, each objective scaled to the range of the feasible points, a tenth beyond the worst of each as the reference.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.tabular import BASELINE, DATA, GRID, P99_MAX_S
from objectives import Direction, Estimate
from optimize.config.measuring import Bound
from optimize.decision.constraints import Limit, make_limits, violations
from optimize.errors import FailureKind
from optimize.search import optuna_compat

OBJECTIVES = {
    "qps": (Direction.MAXIMIZE, True),
    "p99_latency_s": (Direction.MINIMIZE, True),
    "memory_bytes": (Direction.MINIMIZE, True),
    "bleu": (Direction.MAXIMIZE, False),
}
"""Objective -> direction, and whether ratios matter."""
DIRECTIONS = {name: direction for name, (direction, _) in OBJECTIVES.items()}
CHAT_P99_MAX_S, BULK_P99_MAX_S = P99_MAX_S, 30.0
METRICS = (*OBJECTIVES, "error_rate")
_REFERENCE = 1.1
Row = Mapping[str, Any]
Key = tuple[Any, ...]


def limits(p99_max_s: float) -> list[Limit]:
    """The demo studies' constraints; those of the chat and the bulk study differ in how long an answer may take."""
    bounds = {"error_rate": Bound(max=0.01), "p99_latency_s": Bound(max=p99_max_s), "bleu": Bound(min_ratio=0.95)}
    return make_limits(bounds, dict.fromkeys(METRICS))


def key_of(point: Mapping[str, Any]) -> Key:
    return tuple(point[knob] for knob in GRID)


def answers_key(key: Key) -> Key:
    """The settings that its answers depend on."""
    point = dict(zip(GRID, key, strict=True))
    return point["quantization"], point["beam_size"]


def estimate(row: Row, name: str) -> Estimate:
    """One figure of a row."""
    return Estimate(row[name], row[f"{name}.low"], row[f"{name}.high"], int(row[f"{name}.n"]), "")


def figures_of(row: Row, pool: Mapping[Key, float] | None = None) -> dict[str, Estimate]:
    """The figures of a measured row.

    Args:
        row: The row.
        pool: Quality of all answers to the same settings, as `pooled` has it, in the place of the row's own.
    """
    figures = {name: estimate(row, name) for name in METRICS}
    if pool is None:
        return figures
    quality = pool[answers_key(key_of(row))]
    return {**figures, "bleu": Estimate(quality, quality, quality, figures["bleu"].n, "")}


def is_measured(row: Row) -> bool:
    return bool(row["state"] == "completed")


def is_refused(row: Row) -> bool:
    """vLLM itself said that it cannot serve it."""
    return str(row["reason"]).startswith(FailureKind.REFUSED)


def is_too_slow(row: Row) -> bool:
    """It served too few answers to be measured."""
    return str(row["reason"]).startswith(FailureKind.TOO_SLOW)


def loss(value: float, name: str) -> float:
    """To be minimized, on the scale that matters."""
    direction, log = OBJECTIVES[name]
    scaled = math.log(value) if log else value
    return scaled if direction is Direction.MINIMIZE else -scaled


def hypervolume(scaled: np.ndarray) -> float:
    """Of points x objectives, each objective's losses scaled to 0 at the best of all that counts and 1 at the worst."""
    return optuna_compat.hypervolume(scaled, np.full(len(OBJECTIVES), _REFERENCE))


class Table:
    """The measured grid.

    Args:
        rows: All measurements.
        p99_max_s: The limit on latency.

    Attributes:
        rows: Point -> its repeats.
        truth: Point -> metric -> mean figure, where every repeat was measured.
        feasible: Points that keep every constraint by these means.
        best: The hypervolume of them all.
        start_s: Median seconds of a warm start.
        trial_s: Median seconds of a trial beside that.
    """

    def __init__(self, rows: Sequence[Row], p99_max_s: float = CHAT_P99_MAX_S) -> None:
        self.rows: dict[Key, list[Row]] = {}
        for row in rows:
            self.rows.setdefault(key_of(row), []).append(row)
        complete = {key: repeats for key, repeats in self.rows.items() if all(is_measured(r) for r in repeats)}
        bleu = pooled([r for r in rows if is_measured(r)])
        self.truth = {
            key: {
                name: bleu[answers_key(key)] if name == "bleu" else _mean([r[name] for r in repeats], name)
                for name in METRICS
            }
            for key, repeats in complete.items()
        }
        baseline = as_estimates(self.truth[key_of(BASELINE)])
        self.feasible = {
            key
            for key, figures in self.truth.items()
            if all(v <= 0 for v in violations(limits(p99_max_s), as_estimates(figures), baseline).values())
        }
        self.start_s = statistics.median(
            r["seconds.engine_start"] for r in rows if r["new_engine"] and not is_refused(r)
        )
        self.trial_s = statistics.median(measuring_s(r) for r in rows if not is_refused(r))
        losses = np.array([self._loss(k) for k in self.feasible])
        self._low, self._span = losses.min(0), np.maximum(np.ptp(losses, axis=0), 1e-9)
        self.best = self.hypervolume(self.feasible)

    def _loss(self, key: Key) -> list[float]:
        return [loss(self.truth[key][name], name) for name in OBJECTIVES]

    def hypervolume(self, keys: Iterable[Key]) -> float:
        """Of the feasible points among these."""
        feasible = [k for k in set(keys) if k in self.feasible]
        if not feasible:
            return 0.0
        return hypervolume((np.array([self._loss(k) for k in feasible]) - self._low) / self._span)


def as_estimates(figures: Mapping[str, float]) -> dict[str, Estimate]:
    """Exact figures."""
    return {name: Estimate(value, value, value, 1, "") for name, value in figures.items()}


def pooled(rows: Iterable[Row]) -> dict[Key, float]:
    """What answers depend on -> BLEU by all these rows, each weighed by its answers: that of the baseline's like, and
    what is gained over it on common prompts.
    """
    measured = list(rows)
    level = weighted(
        (r["bleu"], r["bleu.n"]) for r in measured if answers_key(key_of(r)) == answers_key(key_of(BASELINE))
    )
    alike: dict[Key, list[Row]] = {}
    for row in measured:
        alike.setdefault(answers_key(key_of(row)), []).append(row)
    return {key: level + weighted((r["bleu.gain"], r["bleu.gain.n"]) for r in them) for key, them in alike.items()}


def weighted(values: Iterable[tuple[float, float]]) -> float:
    """Mean of values, each with its weight."""
    pairs = list(values)
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)


def measuring_s(row: Row) -> float:
    """Seconds of a trial beside its engine's start; none of one that was refused before it began."""
    return float(row["seconds.total"] or 0.0) - float(row["seconds.engine_start"] or 0.0)


def _mean(values: Sequence[float], name: str) -> float:
    log = OBJECTIVES.get(name, (None, False))[1]
    return math.exp(statistics.fmean(map(math.log, values))) if log else statistics.fmean(values)


@cache
def table(p99_max_s: float = CHAT_P99_MAX_S) -> Table:
    """The one kept beside this file."""
    return Table(pq.read_table(DATA).to_pylist(), p99_max_s)


def described(measurements: Table) -> str:
    """Origin of the measurements, for the head of a result."""
    rows = [r for repeats in measurements.rows.values() for r in repeats]
    signature = json.loads(rows[0]["signature"])
    disturbed, began = sum(bool(r["disturbed"]) for r in rows), datetime.fromtimestamp(rows[0]["started_at"], UTC)
    unmeasured = sum(not is_measured(r) for r in rows)
    return (
        f"The table: {len(measurements.rows)} points, {len(rows)} measurements on live engines with `python -m "
        f"benchmarks.tabular` ({signature['machine']}; {signature['engine']}; {began:%Y-%m-%d}). {unmeasured} of them "
        f"gave no figures (mostly too slow under this load), {disturbed} were disturbed by the machine; "
        f"{len(measurements.feasible)} points keep the chat study's constraints in the mean. A warm start took "
        f"{measurements.start_s:.1f} s in the median, a trial {measurements.trial_s:.1f} s beside that."
    )
