"""The result of a table: its grids with levels, changes and shares, and the conditions of its measurements."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from optimize.config.measuring import BASELINE
from optimize.evaluation.answers import Answers
from optimize.ledger import Ledger, TrialRecord
from optimize.plan import Plan
from optimize.tables.anova import shares_of
from optimize.tables.comparison import Grid, grid_of
from optimize.tables.folklore import label
from optimize.tables.measurement import GridMeasurements
from optimize.tables.quality import quality_of
from optimize.tables.shares import Share
from optimize.tables.spec import Spec

_OF_THIS_MACHINE = ("output_dir=", "cache_dir=", "tables.into=", "tables.again=")


@dataclass(frozen=True)
class Result:
    """A measured table.

    Attributes:
        title: Its heading.
        columns: Metric -> heading.
        grids: Its parts.
        shares: Per part, the shares of variance that knobs and pairs explain; empty for parts of one knob.
        notes: Conditions of the measurements: command, rounds, disturbances, load, machine, versions.
    """

    title: str
    columns: Mapping[str, str]
    grids: Sequence[Grid]
    shares: Sequence[Sequence[Share]]
    notes: Sequence[str]


def result_of(name: str, spec: Spec, plan: Plan, measured: Sequence[GridMeasurements]) -> Result | None:
    """The result of the measurements so far; None if no row has figures.

    Args:
        name: Name of the table.
        spec: The table.
        plan: Its study.
        measured: The measurements of each of its grids.
    """
    answers = Answers(Ledger(plan.folder))
    grids = [_grid(measurements, plan, answers) for measurements in measured]
    if not any(grid.readings for grid in grids):
        return None
    shares = [shares_of(grid, plan.objectives) if len(grid.part.knobs) > 1 else [] for grid in grids]
    columns = dict(spec.columns) or {metric: metric for metric in plan.objectives}
    metrics = {metric for grid in grids for row in grid.rows for metric in row.levels}
    records = [record for measurements in measured for record in measurements.records]
    return Result(
        title=f"{spec.title}: model {plan.config.model.name}, workload {plan.workload.name}",
        columns={metric: heading for metric, heading in columns.items() if metric in metrics},
        grids=grids, shares=shares, notes=_notes(name, plan, records, grids[0].rounds),
    )  # fmt: skip


def _grid(measurements: GridMeasurements, plan: Plan, answers: Answers) -> Grid:
    keys = {row: key for row, key in measurements.answer_keys.items() if row not in measurements.refused}
    readings = {row: rounds for row, rounds in measurements.readings.items() if row in keys}
    troubles = measurements.failed | measurements.refused
    grid = grid_of(measurements.part, measurements.points, readings, quality_of(keys, plan, answers), troubles)
    return dataclasses.replace(grid, own_answers=plan.reference == BASELINE)


def _notes(name: str, plan: Plan, records: Sequence[TrialRecord], rounds: int) -> list[str]:
    fixed = ", ".join(f"{knob}={value}" for knob, value in plan.config.at.items())
    others = f"{fixed} held fixed, all other knobs" if fixed else "all other knobs"
    measured_at = datetime.fromtimestamp(records[-1].started_at, UTC)
    return [
        f"Measured on {measured_at:%Y-%m-%d} with `python -m optimize.tables {name} {_command()}`.",
        f"{rounds} rounds: each measures every row once, in a random order and on new engines; {others} at vLLM's "
        "defaults.",
        _disturbances(records),
        *_dtypes(records),
        *(f"{key}: {value}" for key, value in records[-1].signature.items()),
    ]


def _dtypes(records: Sequence[TrialRecord]) -> list[str]:
    """A sentence on the formats and data types that no recipe or flag names; nothing where there are none."""
    recipes = {str(r.config["engine"]["quantization"]): r.dtype for r in records if r.dtype}
    dtypes = ", ".join(f"{dtype} for {recipe}" for recipe, dtype in recipes.items())
    return [f"Data types that vLLM chose: {dtypes}."] if dtypes else []


def _command() -> str:
    """The words of the command, without those that hold on this machine only."""
    words = [word for word in sys.argv[1:] if not word.startswith(_OF_THIS_MACHINE)]
    return " ".join(f"'{word}'" if set(word) & set("[]{}() ") else word for word in words)


def _disturbances(records: Sequence[TrialRecord]) -> str:
    disturbed = Counter(label(record.params) for record in records if record.disturbed)
    rows = ": " + ", ".join(f"{row} {count} times" for row, count in disturbed.items()) if disturbed else ""
    return f"The machine disturbed {disturbed.total()} of {len(records)} measurements{rows}."
