"""The problems that samplers are compared on, by the names of the command line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

from benchmarks.searching import hpobench
from benchmarks.searching.live_table import LiveTable
from benchmarks.searching.measured_table import TableProblem
from benchmarks.searching.problem import Problem
from benchmarks.searching.synthetic import Synthetic

PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "live": lambda _: LiveTable(),
    "vllm": lambda _: hpobench.vllm(),
    "vllm-learnable": lambda _: hpobench.vllm(learnable=True),
    "sglang": lambda _: hpobench.sglang(),
    "synthetic-4": lambda seed: Synthetic(knobs=4, infeasible=0.3, noise=0.05, seed=seed),
    "synthetic-12": lambda seed: Synthetic(knobs=12, infeasible=0.6, noise=0.1, seed=seed),
    "synthetic-20": lambda seed: Synthetic(knobs=20, infeasible=0.0, noise=0.3, seed=seed),
}
"""From the seed of a study; there is one of each table, and a made-up space of its own for each seed."""


def problem(name: str, folder: Path, seed: int = 0) -> Problem:
    """A problem; the forests of a table are grown once and kept in the folder."""
    kept = folder / name / "problem.pickle"
    if kept.exists():
        return pickle.loads(kept.read_bytes())  # type: ignore[no-any-return]  # noqa: S301  (its own file)
    built = PROBLEMS[name](seed)
    built.share([built.start])  # the best known front is part of what is kept
    if isinstance(built, TableProblem):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(built))
    return built
