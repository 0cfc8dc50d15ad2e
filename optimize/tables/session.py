"""`python -m optimize.tables`: measures a table on live engines, or scores one anew from its stored measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from objectives import Measurement
from optimize.config.names import new_name
from optimize.config.schema import LEAST_ROUNDS, StudyConfig
from optimize.driver.checkpoints import checkpoints_of
from optimize.driver.look import look
from optimize.driver.outlook import outlook
from optimize.driver.progress import Progress
from optimize.driver.references import in_words, signed
from optimize.driver.session import FAILED, FINISHED, tracked
from optimize.driver.signals import terminable
from optimize.driver.single import measure_once
from optimize.engine.pool import EnginePool
from optimize.errors import ConfigError, OptimizeError, setting_names
from optimize.evaluation.answers import Answers
from optimize.evaluation.auto_level import at_own_level
from optimize.evaluation.estimates import estimate_all
from optimize.evaluation.evaluator import Evaluator
from optimize.evaluation.references import references_of
from optimize.files import path_part
from optimize.formatting import terminal
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.outcome import State
from optimize.plan import Plan, make_plan
from optimize.search.knobs import BEAM_SIZE
from optimize.tables.measurement import GridMeasurements, GridRun
from optimize.tables.render import metrics_of, put_into, show, to_markdown, write
from optimize.tables.result import Result, result_of
from optimize.tables.spec import SPECS, Spec, values_of
from optimize.tracking.tracker import Tracker


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
        KeyboardInterrupt: after showing the result so far.
    """
    spec = SPECS[name]
    if config.repeats < LEAST_ROUNDS:
        raise ConfigError(
            f"repeats must be at least {LEAST_ROUNDS} for a table, got {config.repeats}: one round does not show "
            "how much measurements vary"
        )
    values = values_of(spec, config.tables, config.at)
    places = {**dict.fromkeys(values, "tables"), **dict.fromkeys(config.at, "at")}
    with setting_names({f"search_space.{knob}": f"{place}.{knob}" for knob, place in places.items()}):
        plan = make_plan(study_of(name, spec, values, config))
    if config.tables.again:
        return _rescore(name, spec, values, plan)
    if line := outlook(plan.config, plan.arrivals, plan.config.study.trials):
        print(f"note: {line}", flush=True)
    grids, files = grids_of(spec, values, config.at), list[Path]()

    def close(tracker: Tracker, status: str) -> None:
        result = result_of(name, spec, plan, grids)
        files.extend(write(result, plan.folder / "report") if result else [])
        text = to_markdown(result) if result else "no table"
        tracker.close(metrics_of(result) if result else {}, text, files, FINISHED if result else FAILED)
        if result:
            show(result, terminal())

    _measure(plan, config_yaml, grids, close)
    return conclude(result_of(name, spec, plan, grids), plan, files)


def _measure(
    plan: Plan, config_yaml: str, grids: Sequence[GridMeasurements], close: Callable[[Tracker, str], None]
) -> None:
    """Measure all grids on live engines; `close` ends the tracking, also after a failure."""
    progress = Progress(plan.config.study.trials, list(plan.objectives), folder=plan.folder)
    pool, ledger = EnginePool(plan.launcher, plan.folder / "engines"), Ledger(plan.folder)
    tags = {"study": plan.config.study.name, "model": plan.config.model.name}
    with (
        terminable(),
        tracked(plan, config_yaml, progress.say, close, tags) as tracker,
        progress,
        ClientPool(plan.config.load.clients) as clients,
        pool,
    ):
        look(plan, progress)
        checkpoints, broken = checkpoints_of(plan, progress)
        plan = at_own_level(plan, pool, clients, progress.say, progress.phase)
        references = references_of(plan, pool, clients, progress.phase)
        if references is not None:
            progress.say(in_words(plan, references))
        evaluator = Evaluator(plan, pool, clients, ledger, progress.phase, Answers(ledger), references=references)
        run = GridRun(
            plan=signed(plan, references),
            measure=lambda record, config: measure_once(record, config, evaluator, tracker, progress),
            next_trial=lambda: max(ledger.numbers(), default=-1) + 1,
            end_round=pool.close,
        )
        for grid in grids:
            run.run(grid, checkpoints, broken)


def grids_of(spec: Spec, values: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]) -> list[GridMeasurements]:
    """The grids of a table, nothing measured yet."""
    return [GridMeasurements(part, part.points(values), fixed) for part in spec.parts]


def _rescore(name: str, spec: Spec, values: Mapping[str, Sequence[Any]], plan: Plan) -> int:
    """The table of stored measurements, scored anew from their requests; no engine starts.

    Raises:
        ConfigError: no measurements of its rows are stored.
    """
    grids = grids_of(spec, values, plan.config.at)
    ledger = Ledger(plan.folder)
    for record in ledger.records():
        scored = rescored(record, plan, ledger)
        for grid in grids:
            grid.add(scored)
    result = result_of(name, spec, plan, grids)
    if result is None:
        raise ConfigError(f"tables.again={plan.config.study.name!r}: {plan.folder} holds no measurements of these rows")
    files = write(result, plan.folder / "report")
    show(result, terminal())
    return conclude(result, plan, files)


def rescored(record: TrialRecord, plan: Plan, ledger: Ledger) -> TrialRecord:
    """The record with today's estimates from its requests and telemetry; memory stays as measured."""
    requests = ledger.read_requests(record.number)
    if record.state != State.COMPLETED or not requests:
        return record
    start_s = record.seconds["warmup"]
    window = (start_s, start_s + record.seconds["window"])
    measurement = Measurement(requests, *window, references={}, series=ledger.read_series(record.number))
    metrics = {name: metric for name, metric in plan.metrics.items() if not metric.same_sample}
    return dataclasses.replace(record, estimates={**record.estimates, **estimate_all(measurement, metrics)})


def conclude(result: Result | None, plan: Plan, files: Sequence[Path]) -> int:
    if result is None:
        raise OptimizeError(f"no row was measured in {LEAST_ROUNDS} rounds: see {plan.folder}")
    if plan.config.tables.into:
        put_into(Path(plan.config.tables.into).resolve(), result.title, to_markdown(result))
    print(f"written: {', '.join(str(file) for file in files)}")
    return 0


def study_of(name: str, spec: Spec, values: Mapping[str, Sequence[Any]], config: StudyConfig) -> StudyConfig:
    """The study whose search space holds every value of the table, so that they are validated like any other."""
    fixed = {knob: [value] for knob, value in {BEAM_SIZE: 1, **config.at}.items()}
    rows = sum(len(part.points(values)) for part in spec.parts)
    study = config.tables.again or new_name("table", name, path_part(config.model.name))
    return dataclasses.replace(
        config,
        study=dataclasses.replace(config.study, name=study, trials=rows * config.repeats),
        search_space=fixed | {knob: list(levels) for knob, levels in values.items()},
        metrics={**{m: {"_target_": t} for m, t in spec.metrics.items()}, **config.metrics},
        baseline={},
        constraints={},
    )
