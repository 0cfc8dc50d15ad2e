"""A study from its plan to its report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from optimize.cache.store import evict, hold_small
from optimize.cli import FAILED
from optimize.config.schema import StudyConfig
from optimize.driver.checkpoints import checkpoints_of, hint
from optimize.driver.forecast import Forecast, measurements
from optimize.driver.heartbeat import Heartbeat
from optimize.driver.look import look
from optimize.driver.outlook import outlook
from optimize.driver.progress import Progress
from optimize.driver.signals import exclusive, terminable
from optimize.engine.base import key_from
from optimize.engine.http_client import route_of
from optimize.errors import ConfigError, OptimizeError
from optimize.outcome import Role, State
from optimize.plan import Plan, make_plan
from optimize.redaction import redacted

if TYPE_CHECKING:
    import optuna

    from optimize.executor.factory import Executor
    from optimize.tracking.tracker import Tracker


_TIMEOUT_S = 5.0


def run_study(config: StudyConfig, config_yaml: str) -> int:
    """Run or resume a study and report its result.

    Args:
        config: The typed configuration.
        config_yaml: The configuration as composed, interpolations of secrets unresolved.

    Returns:
        0, also when there was nothing left to do; 1 if raw data of the study are damaged: all the rest is done.

    Raises:
        ConfigError: bad input.
        OptimizeError: the baseline gave no measurement, too many trials in a row failed, or the storage is gone.
        KeyboardInterrupt: the session was interrupted; the results so far are reported.
    """
    with Heartbeat(lambda: "  reading the model and the workload", partial(print, flush=True)):
        plan = make_plan(config)
    _foretell(plan)
    with exclusive(plan.folder, config.study.name), terminable():
        return _run(plan, config_yaml)


def _foretell(plan: Plan) -> None:
    """Say how long a study will take whose measurements have a length of their own."""
    done = _forecast(plan, slots=1)
    if plan.config.study.fresh:
        done.done = done.confirmed = 0
    if line := outlook(plan.config, plan.arrivals, done.trials - done.done, done.confirmations - done.confirmed):
        print(f"note: {line}", flush=True)


def _run(plan: Plan, config_yaml: str) -> int:
    from optimize.executor.factory import make_executor
    from optimize.study.storage import check_server

    settings, began = plan.config.study, time.monotonic()
    check_server(plan.config.tracking.storage)
    check_credentials(plan.config.tracking.uri)
    deadline = None if settings.minutes is None else began + settings.minutes * 60
    progress = Progress(settings.trials + 1, list(plan.objectives), deadline, plan.folder)
    with progress.during("preparing the study"):
        return run_on(make_executor(plan, progress.say, progress.phase), plan, config_yaml, progress)


def run_on(executor: Executor, plan: Plan, config_yaml: str, progress: Progress) -> int:
    """Run or resume a planned study on an executor that is not entered yet; arguments and errors as `run_study`."""
    from optimize.study.storage import FAULTS, fault_of
    from optimize.study.warm_start import earlier_studies

    earlier = earlier_studies(plan)
    try:
        with ExitStack() as resources:
            with progress.during("waiting for the first worker"):
                resources.enter_context(executor)  # before anything is written: without an engine there is no study
            plan = replace(plan, signature={**plan.signature, "machine": executor.machine})
            return _run_session(executor, resources, plan, config_yaml, progress, earlier)
    except FAULTS as fault:
        url = plan.config.tracking.storage
        raise OptimizeError(
            f"storage {redacted(url)} {fault_of(url, fault)}; the same command then goes on from here"
        ) from fault


def _run_session(
    executor: Executor, resources: ExitStack, plan: Plan, config_yaml: str, progress: Progress,
    earlier: Sequence[optuna.Study],
) -> int:  # fmt: skip
    """Run what is left of a study; the resources (the engines) are released before the report is written.

    Returns:
        0, or 1 if raw data of the study are damaged, which the report has named: nothing makes them again.
    """
    from optimize.driver.auto_level import at_auto_level
    from optimize.driver.baseline import with_defaults
    from optimize.driver.loop import Loop
    from optimize.driver.references import signed, study_references
    from optimize.driver.session import Session, tracked
    from optimize.study.lifecycle import open_study
    from optimize.study.storage import connections_of
    from optimize.study.trials import budget_trials

    with progress.during("opening the study"):
        study = open_study(plan, progress.say)
    forecast = _forecast(plan, executor.slots)
    forecast.done = len(budget_trials(study))
    progress.expect(forecast)
    conclude = partial(_conclude, plan, study)
    agree = _agreement(plan, study)
    with (
        connections_of([study, *earlier]),
        tracked(plan, config_yaml, progress.say, conclude, agree=agree) as tracker,
        resources.pop_all(),
        progress,
    ):
        progress.say(_opening(plan, study, executor.describe()))
        look(plan, progress)
        checkpoints, broken = checkpoints_of(plan, progress, executor.refusals)
        if suggestion := hint(plan, executor.machine):
            progress.say(suggestion)
        bound_cache(plan.config, progress.say)
        plan = at_auto_level(plan, study, executor, checkpoints, progress)
        references = study_references(plan, study, executor, progress)
        session = Session(
            signed(plan, references), study, tracker.ledger, tracker, progress, checkpoints, broken, progress.deadline,
            earlier, references,
        )  # fmt: skip
        Loop(with_defaults(session, executor), executor).run()
    return FAILED if tracker.ledger.lost_tables() else 0


def _forecast(plan: Plan, slots: int) -> Forecast:
    """The time that the study will take, by what its trials took in earlier sessions."""
    from optimize.ledger import Ledger

    settings, confirm = plan.config.study, plan.config.confirm
    planned = measurements(confirm.candidates, confirm.rounds, settings.trials)
    forecast = Forecast(settings.trials + 1, planned, slots)
    for record in Ledger(plan.folder).records():
        forecast.add(
            record, record.role is not Role.CONFIRMATION and record.state in (State.COMPLETED, State.INFEASIBLE)
        )
    return forecast


def bound_cache(config: StudyConfig, say: Callable[[str], None]) -> None:
    """Evict what does not fit; checkpoints and kernels of this study are held by whoever made or read them."""
    cache = Path(config.cache_dir)
    hold_small(cache)
    result = evict(cache, config.cache_max_gib * 2**30)
    for entry in result.removed:
        say(f"cache_max_gib={config.cache_max_gib:g}: removed {entry} from {cache}")
    for path, reason in result.failed.items():
        say(f"note: {path} could not be removed from the cache ({reason})")


def _conclude(plan: Plan, study: optuna.Study, tracker: Tracker, status: str) -> None:
    from optimize.driver.session import KILLED
    from optimize.study.storage import FAULTS

    if status == KILLED:
        print("\ninterrupted: this is the result so far; the same command goes on from here", flush=True)
    with suppress(*FAULTS):
        _report(plan, study, tracker, status)


def _report(plan: Plan, study: optuna.Study, tracker: Tracker, status: str) -> None:
    from optimize.report.effects import read_effects
    from optimize.report.summary import conclude, pareto_by_pair, write
    from optimize.study.lifecycle import stored_studies
    from optimize.tracking.dashboard import show_study

    tracker.catch_up()  # the report links every trial's run
    files, metrics, note = conclude(plan, study)
    try:
        path = plan.folder / "report" / "effects.json"
        effects = read_effects(path) if path in files else None
        page, figures = write(plan.config, study, stored_studies(plan.config.tracking.storage), effects, tracker.ledger)
        for line in tracker.ledger.damage.values():
            print(f"warning: {line}")
        print(f"report: {page}   compare: scripts/ui")
        files = [page, figures, *files]
        folder = plan.config.tracking.storage_artifacts
        tracker.show(lambda: show_study(study, pareto_by_pair(study), note, files, folder))
    finally:
        tracker.close(metrics, note, files, status)


def _opening(plan: Plan, study: optuna.Study, where: str) -> str:
    from optimize.study.trials import budget_trials

    done, settings = len(budget_trials(study)), plan.config.study
    resumed = f", resumed with {done} trials done" if done else ""
    return (
        f"study {settings.name}: {settings.trials} trials and the baseline{resumed}\n"
        f"  model {plan.config.model.name}, workload {plan.workload.name} ({len(plan.workload.prompts)} prompts), "
        f"{plan.signature['load'].partition(';')[0]}\n  {plan.launcher.version()} on {plan.signature['machine']}\n"
        + (f"  {where}\n" if where else "")
        + f"  results in {plan.folder}; watch them with scripts/ui"
    )


def _agreement(plan: Plan, study: optuna.Study) -> Callable[[str], str]:
    """How the drivers of a study agree on one parent run in MLflow: the first to store its id wins."""
    from optimize.study.coordination import agreed
    from optimize.study.storage import is_shared

    return partial(agreed, study, f"mlflow_parent {redacted(plan.config.tracking.uri)}") if is_shared(study) else str


def check_credentials(uri: str) -> None:
    """Ask the tracking server whether it takes the credentials; one that is down does not keep a study from running.

    Raises:
        ConfigError: it refuses them, or the token cannot stand in a header.
    """
    if not uri.startswith(("http://", "https://")):
        return
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = key_from("MLFLOW_TRACKING_TOKEN")
    try:
        answer = httpx.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search", params={"max_results": 1}, timeout=_TIMEOUT_S,
            **route_of(uri),
            auth=(name, password) if name and password else None,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )  # fmt: skip
    except (httpx.HTTPError, httpx.InvalidURL):
        return
    if answer.status_code in (401, 403):
        raise ConfigError(
            f"tracking.uri={redacted(uri)} refuses the credentials (HTTP {answer.status_code}): set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
