"""Measures a table on live engines: every row once a round, in a random order, each round on engines of its own."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from objectives import Estimate
from optimize.answers import Answers
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import ConfigError, FailureKind, OptimizeError
from optimize.evaluate import Evaluator
from optimize.ledger import Ledger, TrialRecord, write_atomically
from optimize.load.crew import Crew
from optimize.measure.session import measure_once, record_of
from optimize.outcome import Completed, Infeasible
from optimize.plan import Plan, make_plan
from optimize.progress import Progress
from optimize.recommend.rounds import LEAST_ROUNDS
from optimize.run import checkpoints_of, terminable
from optimize.schema import StudyConfig
from optimize.space import BEAM_SIZE, QUANTIZATION
from optimize.tables.compare import grid_of
from optimize.tables.knobs import shares_of
from optimize.tables.quality import quality_of
from optimize.tables.render import Result, metrics_of, put_into, show, write
from optimize.tables.spec import SPECS, Part, Point, Spec, values_of
from optimize.tracking import Tracker

ROLE = "table"
_OF_THIS_MACHINE = ("output_dir=", "cache_dir=", "tables.into=")


def run_table(name: str, config: StudyConfig, config_yaml: str) -> int:
    """Measure a table, print it, save it, log it.

    Args:
        name: One of `SPECS`.
        config: The typed configuration; its search space and constraints play no part.
        config_yaml: The configuration as composed.

    Returns:
        0.

    Raises:
        ConfigError: bad input.
        OptimizeError: too little could be measured for a table.
        KeyboardInterrupt: after showing what there is.
    """
    spec = SPECS[name]
    if config.repeats < LEAST_ROUNDS:
        raise ConfigError(
            f"repeats must be at least {LEAST_ROUNDS} for a table, got {config.repeats}: one round says nothing of how "
            "far measurements differ"
        )
    values = values_of(spec, config.tables, config.at)
    plan = make_plan(_study_of(name, spec, values, config))
    tags = {"study": plan.config.study.name, "model": plan.config.model.name}
    write_atomically(plan.folder / "config.yaml", config_yaml)
    write_atomically(plan.folder / "about.json", json.dumps(tags))
    parts = [(part, part.points(values)) for part in spec.parts]
    progress = Progress(plan.config.study.trials, list(plan.objectives))
    tracker = Tracker(plan.config.tracking, Ledger(plan.folder), tags, progress.say)
    tables: list[_Measured] = []
    try:
        pool = EnginePool(plan.launcher, plan.folder / "engines")
        with terminable(), progress, Crew(plan.config.load.clients) as crew, pool:
            tracker.open(config_yaml)
            checkpoints, broken = checkpoints_of(plan, progress)
            ledger = Ledger(plan.folder)
            evaluator = Evaluator(plan, pool, crew, ledger, progress.phase, Answers(ledger))
            for part, points in parts:
                tables.append(_Measured(part, points, plan, evaluator, tracker, progress))
                tables[-1].run(checkpoints, {recipe: str(why) for recipe, why in broken.items()})
    finally:
        result = _result(name, spec, plan, tables)
        files = write(result, plan.folder / "report") if result else []
        text = (plan.folder / "report/table.md").read_text(encoding="utf-8") if result else "no table"
        tracker.close(metrics_of(result) if result else {}, text, files, "FINISHED" if result else "FAILED")
        if result:
            show(result, Console(highlight=False))
    if result is None:
        raise OptimizeError(f"no row was measured in {LEAST_ROUNDS} rounds: see {plan.folder}")
    if config.tables.into:
        put_into(Path(config.tables.into), result.title, text)
    print(f"written: {', '.join(str(file) for file in files)}")
    return 0


def _study_of(name: str, spec: Spec, values: Mapping[str, Sequence[Any]], config: StudyConfig) -> StudyConfig:
    """The study whose search space holds every value of the table: so they are checked like any other."""
    for knob, value in config.at.items():
        if isinstance(value, list | dict):
            raise ConfigError(f"at.{knob} must be one value, got {value!r}")
    fixed = {knob: [value] for knob, value in {BEAM_SIZE: 1, **config.at}.items()}
    rows = sum(len(part.points(values)) for part in spec.parts)
    study = f"table-{name}-{config.model.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return dataclasses.replace(
        config,
        study=dataclasses.replace(config.study, name=study, trials=rows * config.repeats),
        search_space=fixed | {knob: list(found) for knob, found in values.items()},
        metrics={**{m: {"_target_": t} for m, t in spec.metrics.items()}, **config.metrics},
        baseline={},
        constraints={},
    )


@dataclass
class _Measured:
    """One grid while it is measured.

    Attributes:
        readings: Row -> round -> figures.
        refused: Row -> why it cannot be measured.
        failed: Row -> why it failed the last time that it did.
        keys: Row -> what its answers depend on.
        records: Every measurement.
    """

    part: Part
    points: Sequence[Point]
    plan: Plan
    evaluator: Evaluator
    tracker: Tracker
    progress: Progress
    readings: dict[int, dict[int, Mapping[str, Estimate]]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    records: list[TrialRecord] = field(default_factory=list)

    def run(self, checkpoints: Mapping[str, str], broken: Mapping[str, str]) -> None:
        """Measure every row once a round; a row that cannot be measured is not tried again."""
        configs: dict[int, TrialConfig] = {}
        for row, point in enumerate(self.points):
            params = {**self.plan.config.at, **point}
            recipe = str(params.get(QUANTIZATION, self.plan.space.fixed_recipe.name))
            if recipe in broken:
                self.refused[row] = broken[recipe]
            else:
                configs[row] = self.plan.space.resolve(params, checkpoints)
        for number in range(self.plan.config.repeats):
            for row in self._order(number, configs):
                if row not in self.refused:
                    self._measure(row, number, configs[row])
            self.evaluator.pool.close()  # what differs from one start to the next belongs into the intervals

    def _order(self, number: int, configs: Mapping[int, TrialConfig]) -> Iterator[int]:
        """Rows in a random order of this round's, those of one engine together."""
        rng = random.Random(f"{self.plan.config.study.seed}-{number}")
        engines: dict[str, list[int]] = {}
        for row, config in configs.items():
            engines.setdefault(config.engine.key, []).append(row)
        for rows in rng.sample(list(engines.values()), k=len(engines)):
            yield from rng.sample(rows, k=len(rows))

    def _measure(self, row: int, number: int, config: TrialConfig) -> None:
        """Measure; once more where it failed for a passing reason."""
        for _ in range(self.plan.config.executor.retries + 1):
            trial = len(list(self.evaluator.ledger.records()))
            record = record_of(self.plan, trial, ROLE, {**self.plan.config.at, **self.points[row]}, config)
            record.config["round"] = number
            outcome = measure_once(record, config, self.evaluator, self.tracker, self.progress)
            self.records.append(record)
            match outcome:
                case Completed(estimates):
                    self.readings.setdefault(row, {})[number] = dict(estimates)
                    self.keys[row] = record.answers_key
                    return
                case Infeasible(kind, reason) if kind is not FailureKind.UNSETTLED:
                    self.refused[row] = f"{kind}: {reason}"
                    return
                case _:  # what has not settled once may do so the next time: the machine drifts too
                    self.failed[row] = record.reason


def _result(name: str, spec: Spec, plan: Plan, tables: Sequence[_Measured]) -> Result | None:
    """What the measurements so far amount to; None where that is no table."""
    grids, shares = [], []
    for table in tables:
        assert table.evaluator.answers is not None
        keys = {row: key for row, key in table.keys.items() if row not in table.refused}
        readings = {row: found for row, found in table.readings.items() if row in keys}
        quality = quality_of(keys, plan, table.evaluator.answers)
        grids.append(grid_of(table.part, table.points, readings, quality, table.failed | table.refused))
        shares.append(shares_of(grids[-1], plan.objectives) if len(table.part.knobs) > 1 else [])
    if not any(grid.readings for grid in grids):
        return None
    columns = dict(spec.columns) or {metric: metric for metric in plan.objectives}
    seen = {metric for grid in grids for row in grid.rows for metric in row.levels}
    shown = {metric: heading for metric, heading in columns.items() if metric in seen}
    return Result(_title(spec, plan), shown, grids, shares, _notes(name, plan, tables, grids[0].rounds))


def _title(spec: Spec, plan: Plan) -> str:
    return f"{spec.title}: model {plan.config.model.name}, workload {plan.workload.name}"


def _notes(name: str, plan: Plan, tables: Sequence[_Measured], rounds: int) -> list[str]:
    command = " ".join(
        f"'{word}'" if set(word) & set("[]{}() ") else word
        for word in sys.argv[1:]
        if not word.startswith(_OF_THIS_MACHINE)
    )
    records = [record for table in tables for record in table.records]
    disturbed = sum(bool(record.disturbed) for record in records)
    fixed = ", ".join(f"{knob}={value}" for knob, value in plan.config.at.items())
    return [
        f"measured on {datetime.now(UTC):%Y-%m-%d} with `python -m optimize.tables {name} {command}`",
        f"{rounds} rounds, each row once a round in a random order, each round on new engines; "
        f"{fixed or 'knobs not named'} {'held fixed, other knobs ' if fixed else ''}at vLLM's defaults",
        f"{disturbed} of {len(records)} measurements disturbed by the machine in spite of being repeated",
        *(f"{key}: {value}" for key, value in plan.signature.items()),
    ]
