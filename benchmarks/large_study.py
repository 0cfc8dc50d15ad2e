"""A study of a thousand trials: the cost of asking and telling at its end, and the time to resume it.

Usage: python -m benchmarks.large_study [--trials 1000] [--last 20]

Everything is real (search, SQLite, ledger, MLflow) but the measurements: those are replayed from the live table, from
the nearest of its points. All but the last trials are drawn at random, for what they cost does not matter here; a
session of its own then resumes the study and searches on as configured by default.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.ground_truth import METRICS, Row, estimate, is_measured, key_of, measuring_s, table
from benchmarks.tabular import GRID
from objectives import RequestRecord
from optimize.config.compose import configuration
from optimize.decision.futility import Futility
from optimize.driver.loop import Loop
from optimize.driver.progress import Progress
from optimize.driver.session import Session
from optimize.engine.base import TrialConfig
from optimize.errors import FailureKind
from optimize.evaluation.answers import answers_key
from optimize.evaluation.evaluator import Evaluator
from optimize.executor.inline import Inline
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Completed, Evaluation, Infeasible
from optimize.plan import make_plan
from optimize.study.info import StudyInfo
from optimize.study.lifecycle import open_study
from optimize.study.trials import budget_trials
from optimize.tracking.tracker import Tracker

ANSWERS = 100
"""Requests kept of each trial, about as many as a window of the demo's has."""


class Replayed(Evaluator):
    """Reads the table instead of measuring; writes the same files as a real evaluator."""

    def evaluate(
        self, config: TrialConfig, record: TrialRecord, hold: Callable[[], None] = lambda: None,
        futility: Futility | None = None,
    ) -> Evaluation:  # fmt: skip
        hold()
        row = random.Random(record.number).choice(table().rows[key_of(nearest(record.params))])
        key = answers_key(config)
        seconds = {"engine_start": table().start_s, "total": table().start_s + measuring_s(row)}
        if not is_measured(row):
            kind, _, why = str(row["reason"]).partition(": ")
            return Evaluation(Infeasible(FailureKind(kind), why), key, seconds)
        requests = [
            RequestRecord(i, 0.1 * i, 0.1 * i, None, 0.1 * i + 0.3, 20, 30, "a b " * 15) for i in range(ANSWERS)
        ]
        self.ledger.write_requests(record.number, requests, {"kv_cache_use": [(0.1 * i, 0.5) for i in range(ANSWERS)]})
        return Evaluation(Completed(_figures(row)), key, seconds)


def _figures(row: Row) -> dict[str, Any]:
    return {name: estimate(row, name) for name in METRICS}


def nearest(params: Mapping[str, Any]) -> dict[str, Any]:
    """The table's point that is nearest to one of the chat study's."""
    sizes = GRID["batch_size"]
    return {**params, "batch_size": min(sizes, key=lambda size: abs(math.log(size / params["batch_size"])))}


def overrides(folder: Path, trials: int, sampler: str) -> list[str]:
    return [
        "+study=chat", "study.name=thousand", f"study.trials={trials}", f"sampler={sampler}", "engine=simulated",
        "confirm.candidates=0", f"output_dir={folder}", "study.max_failures_in_a_row=1000",
    ]  # fmt: skip


def session(folder: Path, trials: int, sampler: str) -> dict[str, Any]:
    """One session of the study in this process: seconds of its parts."""
    plan = make_plan(configuration(overrides(folder, trials, sampler)))
    study, ledger = open_study(plan), Ledger(plan.folder)
    before = len(budget_trials(study))
    progress = Progress(trials + 1, list(plan.objectives))
    progress.resume(before)
    tags = {"study": "thousand", "scenario": "chat", "model": plan.config.model.name}
    tracker = Tracker(plan.config.tracking, ledger, StudyInfo(tags=tags), lambda _: None)
    checkpoints = {recipe.name: plan.config.model.path for recipe in plan.space.recipes_needed()}
    with progress, Inline(plan, lambda _: None, Replayed) as executor:
        tracker.open("")
        Loop(Session(plan, study, ledger, tracker, progress, checkpoints, {}), executor).run()
    finished = time.monotonic()
    tracker.close({}, "", [], "FINISHED")
    records = [r for r in ledger.records() if r.number > before]
    return {
        "to_first_trial_s": records[0].started_at - records[0].seconds["ask"] - psutil.Process().create_time(),
        "ask_s": [r.seconds["ask"] for r in records],
        "wall_s": [r.seconds["wall"] for r in records],
        "mirroring_s": time.monotonic() - finished,
    }


def run(folder: Path, trials: int, sampler: str) -> dict[str, Any]:
    """A session in a process of its own, as a user's command would be."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.large_study",
        "--session",
        str(folder),
        sampler,
        "--trials",
        str(trials),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--last", type=int, default=20)
    parser.add_argument("--session", nargs=2, metavar=("FOLDER", "SAMPLER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.session:
        with redirect_stdout(sys.stderr):
            result = session(Path(args.session[0]), args.trials, args.session[1])
        print(json.dumps(result))
        return
    require_quiet()
    with TemporaryDirectory() as folder:
        run(Path(folder), args.trials - args.last, "random")
        last = run(Path(folder), args.trials, "gp")
        size_mib = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / 2**20
    asks, walls = (sorted(last[name][1:]) for name in ("ask_s", "wall_s"))  # the first one imports
    lines = [
        "| | median | longest |", "|---|---|---|",
        f"| asking, of the last {len(asks)} trials | {statistics.median(asks):.2f} s | {asks[-1]:.2f} s |",
        f"| all of a trial but its measurement | {statistics.median(walls):.2f} s | {walls[-1]:.2f} s |",
        f"| the first trial after resuming, imports included | | {last['wall_s'][0]:.2f} s |",
        f"| from the command to the first ask of the resumed session | | {last['to_first_trial_s']:.1f} s |",
    ]  # fmt: skip
    what = (
        f"A chat study of {args.trials} trials on a space that is not a grid (batch size 1 to 256), its measurements "
        f"replayed from the live table; SQLite, ledger and MLflow are real ({size_mib:.0f} MiB on disk). The first "
        f"{args.trials - args.last} trials are drawn at random. While the last ones run, MLflow is told in the "
        "background, without the pauses that measuring gives it."
    )
    print("\n".join(lines))
    command = f"python -m benchmarks.large_study --trials {args.trials} --last {args.last}"
    text = "\n\n".join(["# A study of a thousand trials", provenance(command), what, "\n".join(lines)])
    (RESULTS / "thousand.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
