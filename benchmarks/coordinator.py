"""The coordinator alone: how many trials per second it could keep going if measuring cost nothing, and what limits it.

Usage: python -m benchmarks.coordinator [--trials 96] [--postgres URL]

Everything is the study's own (loop, claims, sampler, storage, ledger, MLflow in the background) but the workers, who
answer at once with made-up figures: the only results are the costs of asking and telling.
Writes `docs/results/coordinator.md`, and `coordinator.json` beside it for `benchmarks/scaling.py`.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import RESULTS, provenance
from optimize.config.compose import configuration
from optimize.driver.loop import Loop
from optimize.driver.progress import Progress
from optimize.driver.session import Session
from optimize.executor.factory import FileStore
from optimize.executor.fleet import Fleet, FleetSpec
from optimize.ledger import Ledger
from optimize.plan import make_plan
from optimize.redaction import redacted
from optimize.study.info import StudyInfo
from optimize.study.lifecycle import open_study
from optimize.testing.instant_workers import _ANSWERS, Instant
from optimize.tracking.tracker import Tracker

WORKERS = (1, 8, 64)
_MODELLED = 32
PARTS = {
    "asking (sampler and storage)": ("loop.py", "_ask"),
    "telling storage": ("recorder.py", "_tell_storage"),
    "the best so far, for people": ("recorder.py", "_best"),
    "what is known before a trial": ("preparation.py", "_futility"),
    "the ledger": ("ledger.py", "write"),
    "the budget": ("budget.py", "spent"),
    "claims": ("coordination.py", "running"),
}


@dataclass(frozen=True)
class Case:
    """Settings of one study."""

    workers: int
    sampler: str
    trials: int
    storage: str | None

    def overrides(self, folder: Path) -> list[str]:
        storage = [f"tracking.storage='{self.storage}'"] if self.storage else []
        return [
            "+study=chat", f"study.name=coordinator-{self.sampler}-{self.workers}", f"study.trials={self.trials}",
            "study.fresh=true", f"sampler={self.sampler}", "engine=simulated", "confirm.candidates=0",
            f"output_dir={folder}", "search_space.quantization.choices=[published]", *storage,
        ]  # fmt: skip


def run(case: Case, folder: Path) -> dict[str, Any]:
    """One study in this process: seconds of its trials and of their parts."""
    plan = make_plan(configuration(case.overrides(folder)))
    study, ledger = open_study(plan), Ledger(plan.folder)
    progress = Progress(case.trials + 1, list(plan.objectives))
    tracker = Tracker(plan.config.tracking, ledger, StudyInfo(tags={"study": plan.config.study.name}), lambda _: None)
    checkpoints = {recipe.name: plan.config.model.path for recipe in plan.space.recipes_needed()}
    fleet = Fleet(Instant(plan), FleetSpec(case.workers, plan.signature), lambda _: None, FileStore(ledger))
    profile = cProfile.Profile()
    with progress, fleet as executor:
        loop = Loop(Session(plan, study, ledger, tracker, progress, checkpoints, {}), executor)
        tracker.open("")
        began = time.perf_counter()
        profile.runcall(loop.run)
        took_s = time.perf_counter() - began
    mirrored = time.perf_counter()
    tracker.close({}, "", [], "FINISHED")
    records = [r for r in ledger.records() if r.role == "search"]
    ended = sorted(r.ended_at or 0.0 for r in records)
    quarter = max(2, len(ended) // 4)
    return {
        "trials": len(records),
        "took_s": took_s,
        "first_per_s": (quarter - 1) / (ended[quarter - 1] - ended[0]),
        "last_per_s": (quarter - 1) / (ended[-1] - ended[-quarter]),
        "ask_s": statistics.median(r.seconds["ask"] for r in records[len(records) // 2 :]),
        "mirror_s": (time.perf_counter() - mirrored) / len(records),
        "parts": _parts(profile, len(records)),
    }


def _parts(profile: cProfile.Profile, trials: int) -> dict[str, float]:
    """Part -> seconds per trial, those within it included."""
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    seconds = {}
    for part, (module, function) in PARTS.items():
        spent = [row[3] for (path, _, name), row in stats.items() if name == function and path.endswith("/" + module)]
        seconds[part] = sum(spent) / trials
    return seconds


def in_a_process(case: Case, folder: Path) -> dict[str, Any]:
    """A session in a process of its own, as a user's command would be."""
    session = json.dumps([case.workers, case.sampler, case.trials, case.storage])
    command = [sys.executable, "-m", "benchmarks.coordinator", "--session", session, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def per_second(row: Mapping[str, Any]) -> float:
    """Trials per second: of the first and the last quarter of a study the slower, and no more than an ask allows.

    At the end nothing is asked for any more, which flatters many engines; early there is little to look at, which
    flatters one.
    """
    return float(min(row["first_per_s"], row["last_per_s"], 1 / row["ask_s"]))


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| storage | sampler | engines at a time | trials per second | an ask | MLflow behind at the end, per trial |",
        "|---" * 6 + "|",
    ]
    for row in results.values():
        lines.append(
            f"| {row['storage']} | {row['sampler']} | {row['workers']} | {per_second(row):.2f} | "
            f"{1000 * row['ask_s']:.0f} ms | {1000 * row['mirror_s']:.0f} ms |"
        )
    return "\n".join(lines)


def parts_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    shown = [row for row in results.values() if row["workers"] == max(WORKERS)]
    lines = [
        "| part of a trial, with " + f"{max(WORKERS)} engines | "
        + " | ".join(f"{row['storage']}, {row['sampler']}" for row in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]  # fmt: skip
    lines += [
        f"| {part} | " + " | ".join(f"{1000 * row['parts'][part]:.0f} ms" for row in shown) + " |" for part in PARTS
    ]
    whole = [f"{1000 * row['took_s'] / row['trials']:.0f} ms" for row in shown]
    return "\n".join([*lines, "| the whole trial | " + " | ".join(whole) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=96)
    parser.add_argument("--postgres", help="address of a PostgreSQL database to use beside SQLite")
    parser.add_argument("--only-write", action="store_true", help="write the tables anew from what was measured")
    parser.add_argument("--session", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.session:
        workers, sampler, trials, storage = json.loads(args.session[0])
        with redirect_stdout(sys.stderr):
            result = run(Case(workers, sampler, trials, storage), Path(args.session[1]))
        print(json.dumps(result))
        return
    if args.only_write:
        rows = json.loads((RESULTS / "coordinator.json").read_text(encoding="utf-8"))
        return write(rows, args.trials, args.postgres)
    results: dict[str, dict[str, Any]] = {}
    storages = {"SQLite": None, **({"PostgreSQL": args.postgres} if args.postgres else {})}
    kinds = [("SQLite", "random"), ("SQLite", "gp")]  # where it thinks the storage hardly matters
    kinds += [("PostgreSQL", "random")] if args.postgres else []
    for name, sampler in kinds:
        for workers in WORKERS:
            with TemporaryDirectory() as folder:
                trials = args.trials if sampler == "random" else workers + _MODELLED
                row = in_a_process(Case(workers, sampler, trials, storages[name]), Path(folder))
            results[f"{name} {sampler} {workers}"] = {"storage": name, "sampler": sampler, "workers": workers, **row}
            print(table(results).splitlines()[-1], flush=True)
            write(results, args.trials, args.postgres)


def write(results: Mapping[str, Mapping[str, Any]], trials: int, postgres: str | None) -> None:
    command = f"python -m benchmarks.coordinator --trials {trials}" + (
        f" --postgres {redacted(postgres)}" if postgres else ""
    )
    what = (
        f"Studies of {trials} trials (with the Gaussian process {_MODELLED} more than engines) whose workers "
        f"answer at once (stubs: no engine, no measurement), {_ANSWERS} request records each. Loop, claims, "
        "sampler, storage, ledger and MLflow (SQLite, in the background) are the real ones, in one process; "
        "the profiler that took the parts is running, so without it all is somewhat faster. Trials per "
        "second: of the first and the last quarter the slower, and no more than an ask allows. An ask: median "
        "of the second half. Parts contain what they call. One run of each: no intervals."
    )
    sections = ["# The coordinator alone", provenance(command), what, table(results), parts_table(results)]
    (RESULTS / "coordinator.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    (RESULTS / "coordinator.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
