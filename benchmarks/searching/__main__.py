"""Samplers against tables that others have measured, the live table, and spaces whose front is known.

Usage: python -m benchmarks.searching [--problems NAME ...] [--samplers NAME ...] [--seeds 20] [--page]

Each study is kept as a file in `--folder`, so that the command goes on where it was interrupted, and a sampler that
needs an environment of its own is run by the same command in that environment. `--page` writes
`docs/results/searching.md` from what the folder holds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.common import RESULTS
from benchmarks.searching.page import page
from benchmarks.searching.problem import Problem
from benchmarks.searching.problems import PROBLEMS, problem
from benchmarks.searching.samplers import SAMPLERS
from benchmarks.searching.study import run

TRIALS = {"live": 60}
_TRIALS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("mlruns/searching"))
    parser.add_argument("--page", action="store_true", help="write the page and replay nothing")
    asked = parser.parse_args()
    if asked.page:
        (RESULTS / "searching.md").write_text(page(asked.folder), encoding="utf-8")
        return
    for name in asked.problems:
        for seed in range(asked.seeds):
            subject = problem(name, asked.folder, seed)
            for sampler in asked.samplers:
                _one(subject, sampler, seed, asked.folder / name / sampler / f"{seed}.json", TRIALS.get(name, _TRIALS))


def _one(subject: Problem, sampler: str, seed: int, path: Path, trials: int) -> None:
    """One study, unless its file is there."""
    if path.exists():
        return
    steps = run(subject, SAMPLERS[sampler](subject, seed), seed, trials)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([vars(step) for step in steps]), encoding="utf-8")
    print(f"{subject.name}: {sampler}, seed {seed}: {steps[-1].share:.2f} after {len(steps)} trials", flush=True)


if __name__ == "__main__":
    main()
