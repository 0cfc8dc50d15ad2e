"""Measures the grid of a table: every row once a round, in a random order, each round on engines of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from objectives import Estimate
from optimize.driver.single import record_of
from optimize.engine.base import TrialConfig
from optimize.errors import EngineFailure, FailureKind
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.plan import Plan
from optimize.redaction import redact_all
from optimize.search.knobs import QUANTIZATION
from optimize.tables.spec import Part, Point


@dataclass
class GridMeasurements:
    """The measurements of one grid so far.

    Attributes:
        part: Its knobs, and the claims about them.
        points: Its rows.
        fixed: Knobs that all rows hold at one value.
        readings: Row -> round -> figures.
        refused: Row -> why it cannot be measured.
        failed: Row -> reason of its last failure.
        answer_keys: Row -> key of its answers, see `optimize.evaluation.answers`.
        records: Every measurement.
    """

    part: Part
    points: Sequence[Point]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    readings: dict[int, dict[int, Mapping[str, Estimate]]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    answer_keys: dict[int, str] = field(default_factory=dict)
    records: list[TrialRecord] = field(default_factory=list)

    def params(self, row: int) -> Point:
        """All knobs of one row."""
        return redact_all({**self.fixed, **self.points[row]})

    def add(self, record: TrialRecord) -> None:
        """Add a measurement; one of another grid's rows is ignored."""
        row = next((n for n in range(len(self.points)) if self.params(n) == record.params), None)
        if row is None:
            return
        self.records.append(record)
        if record.state == State.COMPLETED:
            self.readings.setdefault(row, {})[record.config["round"]] = record.estimates
            self.answer_keys[row] = record.answers_key
        elif record.state == State.INFEASIBLE and not record.reason.startswith(FailureKind.UNSETTLED):
            self.refused[row] = record.reason
        else:  # a load that found no steady state once may find one the next time: an open loop near its limit
            self.failed[row] = record.reason


@dataclass(frozen=True)
class GridRun:
    """Measures grids.

    Attributes:
        plan: The table's study.
        measure: Measures one configuration and concludes its record.
        next_trial: Number of the next measurement.
        end_round: Stops all engines, so that variation from start to start is part of the intervals.
    """

    plan: Plan
    measure: Callable[[TrialRecord, TrialConfig], object]
    next_trial: Callable[[], int]
    end_round: Callable[[], None]

    def run(
        self, grid: GridMeasurements, checkpoints: Mapping[str, str], broken: Mapping[str, EngineFailure]
    ) -> None:  # fmt: skip
        """Measure every row once a round; a row that cannot be measured is not tried again.

        Args:
            grid: Collects the measurements.
            checkpoints: Recipe name -> checkpoint.
            broken: Recipe name -> why there is no checkpoint, or why it cannot be served here.
        """
        configs = self._configs(grid, checkpoints, broken)
        for number in range(self.plan.config.repeats):
            for row in self._order(number, configs):
                if row not in grid.refused:
                    self._measure(grid, row, number, configs[row])
            self.end_round()

    def _configs(
        self, grid: GridMeasurements, checkpoints: Mapping[str, str], broken: Mapping[str, EngineFailure]
    ) -> dict[int, TrialConfig]:  # fmt: skip
        """Row -> configuration; rows of a broken recipe are refused."""
        configs: dict[int, TrialConfig] = {}
        for row in range(len(grid.points)):
            recipe = str(grid.params(row).get(QUANTIZATION, self.plan.space.fixed_recipe.name))
            if recipe in broken:
                grid.refused[row] = str(broken[recipe])
            else:
                configs[row] = self.plan.space.resolve(grid.params(row), checkpoints)
        return configs

    def _order(self, number: int, configs: Mapping[int, TrialConfig]) -> Iterator[int]:
        """Rows in this round's random order, those of one engine together."""
        rng = random.Random(f"{self.plan.config.study.seed}-{number}")
        engines: dict[str, list[int]] = {}
        for row, config in configs.items():
            engines.setdefault(config.engine.key, []).append(row)
        for rows in rng.sample(list(engines.values()), k=len(engines)):
            yield from rng.sample(rows, k=len(rows))

    def _measure(self, grid: GridMeasurements, row: int, number: int, config: TrialConfig) -> None:
        """Measure one row, and again after a passing failure."""
        for _ in range(self.plan.config.executor.retries + 1):
            record = record_of(self.plan, self.next_trial(), Role.TABLE, grid.params(row), config)
            record.config["round"] = number
            self.measure(record, config)
            grid.add(record)
            if record.state == State.COMPLETED or row in grid.refused:
                return
