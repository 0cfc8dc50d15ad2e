"""A study from its plan to its report."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from optimize.about import about
from optimize.cache import evict, using
from optimize.engine.pool import EnginePool
from optimize.errors import ConfigError, EngineFailure
from optimize.ledger import Ledger, write_atomically
from optimize.load.crew import Crew
from optimize.plan import Plan, make_plan
from optimize.progress import Progress
from optimize.schema import StudyConfig

if TYPE_CHECKING:
    import optuna

    from optimize.tracking import Tracker


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
    from optimize.history import earlier_studies
    from optimize.loop import Loop
    from optimize.study import open_study, told
    from optimize.tracking import Tracker

    began = time.monotonic()
    earlier = earlier_studies(plan)
    study, ledger = open_study(plan), Ledger(plan.folder)
    write_atomically(plan.folder / "config.yaml", config_yaml)
    known = about(plan, _parent_tags(plan))
    known.write(plan.folder)
    minutes = plan.config.study.minutes
    deadline = None if minutes is None else began + minutes * 60
    progress = Progress(plan.config.study.trials + 1, len(told(study)), list(plan.objectives), deadline)
    tracker = Tracker(plan.config.tracking, ledger, known, progress.say)
    status = "FAILED"
    try:
        pool = EnginePool(plan.launcher, plan.folder / "engines")
        with ExitStack() as held, progress, Crew(plan.config.load.clients) as crew, pool:
            progress.say(_opening(plan, study))
            checkpoints, broken = checkpoints_of(plan, progress)
            tracker.open(config_yaml)
            cache = Path(plan.config.cache_dir)
            held.enter_context(using(cache, _cache_entries(plan, checkpoints)))
            evict(cache, plan.config.cache_max_gib * 2**30)
            Loop(plan, study, checkpoints, broken, pool, crew, tracker, progress, deadline, earlier).run()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        print("\ninterrupted: this is what there is; the same command goes on from here", flush=True)
        raise
    finally:
        _conclude(plan, study, tracker, status)
    return 0


def checkpoints_of(plan: Plan, progress: Progress) -> tuple[dict[str, str], dict[str, EngineFailure]]:
    """The checkpoints a plan needs; see `optimize.quantize.make_checkpoints`."""
    from optimize.quantize import make_checkpoints

    recipes = plan.space.recipes_needed()
    if plan.launcher.request_knobs_only:
        return {r.name: plan.config.model.path for r in recipes}, {}
    progress.phase("making quantized checkpoints")
    return make_checkpoints(plan.config.model, recipes, Path(plan.config.cache_dir), progress.say)


def _cache_entries(plan: Plan, checkpoints: Mapping[str, str]) -> list[Path]:
    """What of the cache this study uses."""
    cache = Path(plan.config.cache_dir).resolve()
    used = [Path(c) for c in checkpoints.values() if cache in Path(c).parents]
    return used + [path for kind in ("compiled", "datasets", "tokens") for path in (cache / kind).glob("*")]


def _conclude(plan: Plan, study: optuna.Study, tracker: Tracker, status: str) -> None:
    from optimize.dashboard import show_study
    from optimize.report.conclude import conclude, pair_looks

    files, metrics, note = conclude(plan, study)
    tracker.show(lambda: show_study(study, pair_looks(study), note, files, plan.config.tracking.storage_artifacts))
    tracker.close(metrics, note, files, status)


def _opening(plan: Plan, study: optuna.Study) -> str:
    from optimize.study import told

    done, settings = len(told(study)), plan.config.study
    resumed = f", resumed with {done} trials done" if done else ""
    return (
        f"study {settings.name}: {settings.trials} trials and the baseline{resumed}\n"
        f"  model {plan.config.model.name}, workload {plan.workload.name} ({len(plan.workload.prompts)} prompts), "
        f"{plan.arrivals.describe()}\n  {plan.launcher.version()} on {plan.signature['machine']}\n"
        f"  results in {plan.folder}; watch them with scripts/ui"
    )


def _parent_tags(plan: Plan) -> dict[str, str]:
    return {
        "study": plan.config.study.name,
        "scenario": plan.config.scenario.name,
        "model": plan.config.model.name,
    }


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
