"""Studies that several tests read: made once, on instant workers, by whoever asks first."""

from __future__ import annotations

import math
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from filelock import FileLock

from objectives import Estimate, RequestRecord
from optimize.config.command_words import head_of
from optimize.config.compose import configuration
from optimize.engine.base import TrialConfig
from optimize.executor.base import Job
from optimize.outcome import Evaluation
from optimize.plan import Plan, make_plan
from optimize.testing.instant_workers import Instant, instant_fleet

ROOT = Path(__file__).resolve().parents[1]
QUICK = [
    "engine=simulated", "engine.token_s=0.004", "search_space.quantization=null", "search_space.workers=null",
    "study.trials=2", "sampler=random", "confirm.candidates=1", "confirm.rounds=2",
    "load.warmup_s=0.1", "load.warmup_requests=4", "load.window_min_s=1.5", "load.window_requests=10",
    "load.window_max_s=30", "load.precision={}", "constraints=none",
    "load.guard={repeats: 0, steal_max: 1, other_cores_max: 1, throttled_max: 1, drift_p: 0}",
    "load.guard.send_lag_p99_max_s=60", "load.guard.client_cpu_max=2",
]  # fmt: skip
"""Overrides that make any of the demo's studies a matter of seconds; its figures are no measurements."""
STUDIES = [
    ["+study=chat", *QUICK],
    ["+study=bulk", *QUICK, "load.arrivals.users=4", "confirm.candidates=0"],
    ["+study=abtest", *QUICK, "load.arrivals.rate_per_s=40", "confirm.candidates=0"],
    ["+study=chat", "study.name=chat-other", "model.name=other", *QUICK, "confirm.candidates=0"],
]
_REQUESTS = 60


class Plausible(Instant):
    """Instant workers whose trials leave all the files of a real trial, with figures of a plausible size."""

    def evaluate(self, job: Job) -> Evaluation:
        evaluation = super().evaluate(job)
        self._ledger.write_requests(job.record.number, _requests(self._speed(job.config)), _series())
        self._ledger.log(job.record.number).write_text("engine started (made up)\n", encoding="utf-8")
        return evaluation

    def figures(self, config: TrialConfig) -> dict[str, Estimate]:
        figures, speed = super().figures(config), self._speed(config)
        values = {
            "qps": (10 * speed, "1/s"), "p99_latency_s": (2 / speed, "s"), "memory_bytes": (2e6 * speed, "bytes"),
            "bleu": (70 - speed, "BLEU"),
        }  # fmt: skip
        return figures | {n: Estimate(v, v * 0.95, v * 1.05, _REQUESTS, unit) for n, (v, unit) in values.items()}

    def _speed(self, config: TrialConfig) -> float:
        """1 to 4: grows with the batch, falls with the beams."""
        batch = dict(config.engine.flags).get("max_num_seqs", 128)
        return math.log2(2 + batch) / 2 / math.sqrt(config.request.beam_size)


def _requests(speed: float) -> list[RequestRecord]:
    latencies = [(1 + 0.01 * i) / speed for i in range(_REQUESTS)]
    return [
        RequestRecord(i, 0.1 * i, 0.1 * i, 0.1 * i + s / 4, 0.1 * i + s, 20, 30, "") for i, s in enumerate(latencies)
    ]


def _series() -> dict[str, list[tuple[float, float]]]:
    names = ("cpu_cores", "requests_running", "requests_waiting", "generated_tokens")
    return {name: [(0.5 * i, 1.0 + i % 3) for i in range(14)] for name in names}


def made(shared: Path, empty_mlflow_db: Path) -> Path:
    """An output folder with all of STUDIES; test workers of one session share it."""
    out = shared / "made"
    with FileLock(shared / "made.lock"):
        if not (out / "done").is_file():
            out.mkdir()
            shutil.copy(empty_mlflow_db, out / "mlflow.db")
            # A report's pictures take a quarter of so small a study's time; `test_page` tests them.
            with patch("optimize.report.page.write_png", lambda drawing, path: path):
                for overrides in STUDIES:
                    make_study([*overrides, f"output_dir={out}", f"cache_dir={out}/cache"])
            (out / "done").touch()
    return out


def make_study(overrides: Sequence[str], workers: Callable[[Plan], Instant] = Plausible, slots: int = 1) -> Plan:
    """Run a study as its command would, on instant workers in place of engines.

    Returns:
        Its plan.
    """
    plan = make_plan(configuration(overrides))
    code_of(plan, overrides, workers, slots)
    return plan


def code_of(
    plan: Plan, overrides: Sequence[str], workers: Callable[[Plan], Instant] = Plausible, slots: int = 1
) -> int:
    """Run or resume a planned study as its command would; returns the exit code."""
    from optimize.driver.progress import Progress
    from optimize.driver.run import run_on

    progress = Progress(plan.config.study.trials + 1, list(plan.objectives), folder=plan.folder)
    with warnings.catch_warnings():  # of other people's packages
        warnings.simplefilter("default")
        return run_on(instant_fleet(workers(plan), plan, slots), plan, head_of(overrides), progress)


def copy_studies(source: Path, target: Path, *ignored: str) -> Path:
    """Copy an output folder but for files of these names; `source` may be open: a database is copied as a whole."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*ignored, "*.db", "*.db-*"))
    for path in source.glob("*.db"):
        with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(target / path.name)) as other:
            one.backup(other)
    return target
