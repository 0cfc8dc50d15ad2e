"""Measures a table on live engines: every row once a round, in a random order, each round on engines of its own."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from objectives import Estimate, Measurement
from optimize.config.schema import LEAST_ROUNDS, StudyConfig
from optimize.driver.checkpoints import checkpoints_of
from optimize.driver.progress import Progress
from optimize.driver.session import FAILED, FINISHED, tracked
from optimize.driver.signals import terminable
from optimize.driver.single import measure_once, record_of
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import ConfigError, EngineFailure, FailureKind, OptimizeError
from optimize.evaluation.answers import Answers
from optimize.evaluation.evaluator import Evaluator, estimate_all
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.outcome import Role
from optimize.plan import Plan, make_plan
from optimize.search.space import BEAM_SIZE, QUANTIZATION
from optimize.tables.anova import shares_of
from optimize.tables.comparison import grid_of
from optimize.tables.folklore import label
from optimize.tables.quality import quality_of
from optimize.tables.render import Result, metrics_of, put_into, show, to_markdown, write
from optimize.tables.spec import SPECS, Part, Point, Spec, values_of
from optimize.tracking.tracker import Tracker

_OF_THIS_MACHINE = ("output_dir=", "cache_dir=", "tables.into=", "tables.again=")


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
    if config.tables.again:
        return _again(name, spec, values, plan)
    tags = {"study": plan.config.study.name, "model": plan.config.model.name}
    tables = [Measured(part, part.points(values), config.at) for part in spec.parts]
    progress = Progress(plan.config.study.trials, list(plan.objectives))
    files: list[Path] = []

    def conclude(tracker: Tracker, status: str) -> None:
        result = result_of(name, spec, plan, tables)
        files.extend(write(result, plan.folder / "report") if result else [])
        text = to_markdown(result) if result else "no table"
        tracker.close(metrics_of(result) if result else {}, text, files, FINISHED if result else FAILED)
        if result:
            show(result, Console(highlight=False))

    pool = EnginePool(plan.launcher, plan.folder / "engines")
    with (
        terminable(),
        tracked(plan, config_yaml, progress.say, conclude, tags) as tracker,
        progress,
        ClientPool(plan.config.load.clients) as clients,
        pool,
    ):
        checkpoints, broken = checkpoints_of(plan, progress)
        ledger = Ledger(plan.folder)
        evaluator = Evaluator(plan, pool, clients, ledger, progress.phase, Answers(ledger))
        for table in tables:
            _Runner(plan, evaluator, tracker, progress).run(table, checkpoints, broken)
    return _done(result_of(name, spec, plan, tables), plan, files)


def _again(name: str, spec: Spec, values: Mapping[str, Sequence[Any]], plan: Plan) -> int:
    """The table of measurements that are kept on disk, scored anew from their requests: no engine starts.

    Raises:
        ConfigError: there are none of such rows.
    """
    tables = [Measured(part, part.points(values), plan.config.at) for part in spec.parts]
    ledger = Ledger(plan.folder)
    for record in ledger.records():
        scored = _scored_again(record, plan, ledger)
        for table in tables:
            table.add(scored)
    result = result_of(name, spec, plan, tables)
    if result is None:
        raise ConfigError(f"tables.again={plan.config.study.name!r}: {plan.folder} holds no measurements of these rows")
    files = write(result, plan.folder / "report")
    show(result, Console(highlight=False))
    return _done(result, plan, files)


def _scored_again(record: TrialRecord, plan: Plan, ledger: Ledger) -> TrialRecord:
    """With what today's metrics make of its requests and telemetry; memory stays as it was read."""
    requests = ledger.read_requests(record.number)
    if record.state != "completed" or not requests:
        return record
    start_s = record.seconds["warmup"]
    window = (start_s, start_s + record.seconds["window"])
    measurement = Measurement(requests, *window, references={}, series=ledger.read_series(record.number))
    metrics = {name: metric for name, metric in plan.metrics.items() if not metric.same_sample}
    return dataclasses.replace(record, estimates={**record.estimates, **estimate_all(measurement, metrics)})


def _done(result: Result | None, plan: Plan, files: Sequence[Path]) -> int:
    if result is None:
        raise OptimizeError(f"no row was measured in {LEAST_ROUNDS} rounds: see {plan.folder}")
    if plan.config.tables.into:
        put_into(Path(plan.config.tables.into), result.title, to_markdown(result))
    print(f"written: {', '.join(str(file) for file in files)}")
    return 0


def _study_of(name: str, spec: Spec, values: Mapping[str, Sequence[Any]], config: StudyConfig) -> StudyConfig:
    """The study whose search space holds every value of the table: so they are checked like any other."""
    for knob, value in config.at.items():
        if isinstance(value, list | dict):
            raise ConfigError(f"at.{knob} must be one value, got {value!r}")
    fixed = {knob: [value] for knob, value in {BEAM_SIZE: 1, **config.at}.items()}
    rows = sum(len(part.points(values)) for part in spec.parts)
    study = config.tables.again or f"table-{name}-{config.model.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return dataclasses.replace(
        config,
        study=dataclasses.replace(config.study, name=study, trials=rows * config.repeats),
        search_space=fixed | {knob: list(found) for knob, found in values.items()},
        metrics={**{m: {"_target_": t} for m, t in spec.metrics.items()}, **config.metrics},
        baseline={},
        constraints={},
    )


@dataclass
class Measured:
    """One grid, as far as it is measured.

    Attributes:
        part: Its knobs, and what is said of them.
        points: Its rows.
        fixed: Knobs held at one value in all of them.
        readings: Row -> round -> figures.
        refused: Row -> why it cannot be measured.
        failed: Row -> why it failed the last time that it did.
        keys: Row -> what its answers depend on.
        records: Every measurement.
    """

    part: Part
    points: Sequence[Point]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    readings: dict[int, dict[int, Mapping[str, Estimate]]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    records: list[TrialRecord] = field(default_factory=list)

    def params(self, row: int) -> Point:
        """All knobs of one row."""
        return {**self.fixed, **self.points[row]}

    def add(self, record: TrialRecord) -> None:
        """Take in a measurement, if it is of a row of this grid."""
        row = next((n for n in range(len(self.points)) if self.params(n) == record.params), None)
        if row is None:
            return
        self.records.append(record)
        if record.state == "completed":
            self.readings.setdefault(row, {})[record.config["round"]] = record.estimates
            self.keys[row] = record.answers_key
        elif record.state == "infeasible" and not record.reason.startswith(FailureKind.UNSETTLED):
            self.refused[row] = record.reason
        else:  # what has not settled once may do so the next time: an open loop near its limit
            self.failed[row] = record.reason


@dataclass(frozen=True)
class _Runner:
    plan: Plan
    evaluator: Evaluator
    tracker: Tracker
    progress: Progress

    def run(self, table: Measured, checkpoints: Mapping[str, str], broken: Mapping[str, EngineFailure]) -> None:
        """Measure every row once a round; a row that cannot be measured is not tried again."""
        configs: dict[int, TrialConfig] = {}
        for row in range(len(table.points)):
            recipe = str(table.params(row).get(QUANTIZATION, self.plan.space.fixed_recipe.name))
            if recipe in broken:
                table.refused[row] = str(broken[recipe])
            else:
                configs[row] = self.plan.space.resolve(table.params(row), checkpoints)
        for number in range(self.plan.config.repeats):
            for row in self._order(number, configs):
                if row not in table.refused:
                    self._measure(table, row, number, configs[row])
            self.evaluator.pool.close()  # what differs from one start to the next belongs into the intervals

    def _order(self, number: int, configs: Mapping[int, TrialConfig]) -> Iterator[int]:
        """Rows in a random order of this round's, those of one engine together."""
        rng = random.Random(f"{self.plan.config.study.seed}-{number}")
        engines: dict[str, list[int]] = {}
        for row, config in configs.items():
            engines.setdefault(config.engine.key, []).append(row)
        for rows in rng.sample(list(engines.values()), k=len(engines)):
            yield from rng.sample(rows, k=len(rows))

    def _measure(self, table: Measured, row: int, number: int, config: TrialConfig) -> None:
        """Measure; again where it failed for a passing reason."""
        for _ in range(self.plan.config.executor.retries + 1):
            trial = len(list(self.evaluator.ledger.records()))
            record = record_of(self.plan, trial, Role.TABLE, table.params(row), config)
            record.config["round"] = number
            measure_once(record, config, self.evaluator, self.tracker, self.progress)
            table.add(record)
            if record.state == "completed" or row in table.refused:
                return


def result_of(name: str, spec: Spec, plan: Plan, tables: Sequence[Measured]) -> Result | None:
    """What the measurements so far amount to; None where that is no table."""
    grids, shares, answers = [], [], Answers(Ledger(plan.folder))
    for table in tables:
        keys = {row: key for row, key in table.keys.items() if row not in table.refused}
        readings = {row: found for row, found in table.readings.items() if row in keys}
        quality = quality_of(keys, plan, answers)
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


def _notes(name: str, plan: Plan, tables: Sequence[Measured], rounds: int) -> list[str]:
    command = " ".join(
        f"'{word}'" if set(word) & set("[]{}() ") else word
        for word in sys.argv[1:]
        if not word.startswith(_OF_THIS_MACHINE)
    )
    records = [record for table in tables for record in table.records]
    disturbed = Counter(label(record.params) for record in records if record.disturbed)
    which = ": " + ", ".join(f"{row} {count} times" for row, count in disturbed.items()) if disturbed else ""
    fixed = ", ".join(f"{knob}={value}" for knob, value in plan.config.at.items())
    measured_at = datetime.fromtimestamp(records[-1].started_at, UTC)
    return [
        f"measured on {measured_at:%Y-%m-%d} with `python -m optimize.tables {name} {command}`",
        f"{rounds} rounds, each row once a round in a random order, each round on new engines; "
        f"{fixed or 'knobs not named'} {'held fixed, other knobs ' if fixed else ''}at vLLM's defaults",
        f"{disturbed.total()} of {len(records)} measurements disturbed by the machine, measured again or not{which}",
        *(f"{key}: {value}" for key, value in records[-1].signature.items()),
    ]
