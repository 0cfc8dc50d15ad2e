"""Measures one configuration as a study would, on a new engine for every repeat, and prints and tracks the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from objectives import Estimate
from objectives.intervals import repeats_interval
from optimize.config.names import new_name
from optimize.config.schema import StudyConfig
from optimize.driver.checkpoints import checkpoints_of
from optimize.driver.look import look
from optimize.driver.outlook import outlook
from optimize.driver.progress import Progress
from optimize.driver.references import in_words, signed
from optimize.driver.session import FAILED, FINISHED, tracked
from optimize.driver.signals import terminable
from optimize.driver.single import measure_once, record_of
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool
from optimize.engine.startup import phases_in
from optimize.errors import OptimizeError
from optimize.evaluation.auto_level import at_own_level
from optimize.evaluation.evaluator import Evaluator
from optimize.evaluation.references import references_of
from optimize.formatting import figure
from optimize.ledger import Ledger, TrialRecord
from optimize.load.audit import Audit
from optimize.load.client_pool import ClientPool
from optimize.load.service_level import capacity_in_words
from optimize.outcome import Completed, Infeasible, Role
from optimize.plan import Plan
from optimize.report.turns import turn_records, turn_table
from optimize.search.knobs import QUANTIZATION
from optimize.study.target import plan_of_point
from optimize.tracking.tracker import Tracker


def run_measurement(config: StudyConfig, config_yaml: str) -> int:
    """Measure the configuration `config.at` `config.repeats` times; other knobs are at vLLM's defaults.

    Args:
        config: The typed configuration; its search space and constraints are not used.
        config_yaml: The configuration as composed.

    Returns:
        0.

    Raises:
        ConfigError: bad input.
        OptimizeError: the configuration cannot be measured.
    """
    plan = _plan(config)
    if line := outlook(plan.config, plan.arrivals, config.repeats):
        print(f"note: {line}", flush=True)
    progress = Progress(config.repeats, list(plan.objectives), folder=plan.folder)
    tags = {"study": plan.config.study.name, "model": plan.config.model.name}
    records: list[TrialRecord] = []

    def conclude(tracker: Tracker, status: str) -> None:
        figures = {name: estimate.value for name, estimate in combined(records).items()}
        tracker.close(figures, report(plan, records), [], FINISHED if records else FAILED)

    with (
        terminable(),
        tracked(plan, config_yaml, progress.say, conclude, tags) as tracker,
        progress,
        ClientPool(config.load.clients) as clients,
        _pool(plan) as pool,
    ):
        look(plan, progress)
        point = _resolve(plan, config.at, progress)
        plan = at_own_level(plan, pool, clients, progress.say, progress.phase)
        references = references_of(plan, pool, clients, progress.phase)
        plan = signed(plan, references)
        if references is not None:
            progress.say(in_words(plan, references))
        evaluator = Evaluator(plan, pool, clients, Ledger(plan.folder), progress.phase, references=references)
        for number in range(config.repeats):
            records += _repeat(number, point, plan, evaluator, tracker, progress)
            pool.close()  # the interval is to include how far engines differ from one start to the next
    if not records:
        raise OptimizeError(f"no repeat gave a measurement: see {plan.folder}")
    print(report(plan, records))
    return 0


def _plan(config: StudyConfig) -> Plan:
    study = dataclasses.replace(config.study, trials=config.repeats)
    return plan_of_point(dataclasses.replace(config, study=study), new_name("measure"))


def _pool(plan: Plan) -> EnginePool:
    return EnginePool(plan.launcher, plan.folder / "engines")


def _resolve(plan: Plan, at: Mapping[str, Any], progress: Progress) -> TrialConfig:
    checkpoints, broken = checkpoints_of(plan, progress)
    recipe = str(at.get(QUANTIZATION, plan.space.fixed_recipe.name))
    if recipe in broken:
        dtypes = {needed.name: needed.dtype for needed in plan.space.recipes_needed()}
        remedy = "" if dtypes.get(recipe, "auto") == "auto" else "; quantization=published leaves the type to vLLM"
        raise OptimizeError(f"{recipe} cannot be measured here: {broken[recipe]}{remedy}")
    return plan.space.resolve(at, checkpoints)


def _repeat(
    number: int, point: TrialConfig, plan: Plan, evaluator: Evaluator, tracker: Tracker, progress: Progress
) -> list[TrialRecord]:
    """Measure once.

    Returns:
        The record if it is a measurement, else nothing.

    Raises:
        OptimizeError: the configuration cannot run, so that no other repeat would either.
    """
    record = record_of(plan, number, Role.MEASUREMENT, plan.config.at, point)
    outcome = measure_once(record, point, evaluator, tracker, progress)
    if isinstance(outcome, Infeasible):
        raise OptimizeError(f"this configuration cannot be measured: {outcome.kind}: {outcome.reason}")
    return [record] if isinstance(outcome, Completed) else []


def combined(records: Sequence[TrialRecord]) -> dict[str, Estimate]:
    """Metric -> mean of the repeats with its 95 % t interval; of a single repeat its figure and interval."""
    if len(records) == 1:
        return dict(records[0].estimates)
    names = [name for name in records[0].estimates if all(name in r.estimates for r in records)] if records else []
    means = {}
    for name in names:
        estimates = [r.estimates[name] for r in records]
        value, low, high = repeats_interval([e.value for e in estimates])
        means[name] = Estimate(value, max(low, 0.0), high, len(records), estimates[0].unit)  # no metric is negative
    return means


def _scored(seconds: Mapping[str, float]) -> str:
    scoring_s = seconds.get("scoring", 0.0)
    return f", quality scored for {scoring_s:.1f} s" if scoring_s >= 1 else ""


def _by_turn(plan: Plan, records: Sequence[TrialRecord]) -> list[str]:
    """The table of a conversation's turns, over all repeats; nothing where conversations have one turn."""
    if plan.workload.conversations is None:
        return []
    table = turn_table(turn_records(Ledger(plan.folder), records))
    return [*table, ""] if table else []


def report(plan: Plan, records: Sequence[TrialRecord]) -> str:
    """Figures, phases, audit and signature of all repeats, in Markdown."""
    if not records:
        return "no measurement"
    spread = "mean of the repeats, their 95 % t interval" if len(records) > 1 else "value, 95 % interval"
    head = "| metric | " + " | ".join([spread, *(f"repeat {r.number}" for r in records if len(records) > 1)]) + " |"
    lines = ["", head, "|---" * (head.count("|") - 1) + "|"]
    figures = combined(records)
    for name, estimate in {name: figures[name] for name in [*plan.objectives, *figures] if name in figures}.items():
        each = [figure(r.estimates[name]) for r in records if len(records) > 1]
        lines.append(f"| {name} | " + " | ".join([figure(estimate), *each]) + " |")
    lines += ["", *_by_turn(plan, records)]
    for record in records:
        s = record.seconds
        phases = ", ".join(f"{phase} {taken_s:.1f} s" for phase, taken_s in phases_in(s).items())
        phases = f" ({phases})" if phases else ""
        lines.append(
            f"repeat {record.number}: engine ready after {s['engine_start']:.1f} s{phases}, "
            f"settled after {s['warmup']:.1f} s, measured for {s['window']:.1f} s{_scored(s)}"
        )
        if record.repeated:
            before = (
                f"measured before for {s['repeated']:.0f} s, and rejected" if "repeated" in s else "probes repeated"
            )
            lines.append(f"  {before}: {'; '.join(record.repeated)}")
        lines += [f"  {capacity_in_words(record.capacity)}"] if record.capacity else []
        lines.append(f"  client: {Audit(**record.audit).in_words()}")
        lines.append(f"  machine: {'; '.join(record.disturbed) or 'undisturbed'}")
    lines += [f"data type: {records[0].dtype}, as vLLM chose"] if records[0].dtype else []
    lines += [f"{key}: {value}" for key, value in plan.signature.items()]
    lines.append(f"raw records in {plan.folder}")
    command = records[0].config["deploy_command"]
    return "\n".join([*lines, f"deploy: {command}"] if command else lines)
