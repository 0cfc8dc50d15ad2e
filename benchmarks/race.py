"""Two searches on the live demo, by the clock: this project's, and what the nearest peer does.

Usage: python -m benchmarks.race [--trials 30] [--peer-trials 60]

The peer starts an engine cold for every trial, searches with TPE as shipped, knows no constraints, and is told FAIL of
what cannot be measured. Both search the grid of the live table with its load; progress is judged by the table's means,
not by the readings of the race, so that luck does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.table import OVERRIDES
from benchmarks.truth import Key, key_of, table
from optimize.ledger import CONFIRMATION, Ledger

SHARE = 0.95


class PlainTPE(BaseSampler):
    """TPE as shipped that is told FAIL of what cannot be measured, and of no constraint."""

    def __init__(self, seed: int | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._seed = seed
        self._shadow: optuna.Study | None = None
        self._trial: optuna.Trial | None = None

    def _study(self, study: optuna.Study) -> optuna.Study:
        if self._shadow is None:
            self._shadow = optuna.create_study(directions=study.directions, sampler=TPESampler(seed=self._seed))
        return self._shadow

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._trial = self._study(study).ask()

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        assert self._trial is not None
        return self._trial._suggest(param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        assert self._trial is not None
        shadow = self._study(study)
        shadow.tell(
            self._trial, state=TrialState.FAIL
        )  # what was asked for; what was run, the baseline say, comes next
        measured = state is TrialState.COMPLETE and not trial.user_attrs.get("imputed")
        shadow.add_trial(
            create_trial(
                state=TrialState.COMPLETE if measured else TrialState.FAIL, params=trial.params,
                distributions=trial.distributions, values=values if measured else None,
            )
        )  # fmt: skip


RACERS = {
    "this project": [],
    "cold starts, TPE, FAIL": [
        "engine.start=cold", "study.reuse_engines=false", "study.cut_short=false",
        "sampler=random", "sampler._target_=benchmarks.race.PlainTPE", "study.max_failures_in_a_row=1000",
    ],
}  # fmt: skip


def run(name: str, trials: int, folder: Path) -> list[tuple[float, Key]]:
    """(seconds since the command was given, configuration tried) of each trial that ended with a result."""
    began = time.time()
    command = [
        sys.executable, "-m", "optimize", *OVERRIDES, *RACERS[name], f"study.trials={trials}", "confirm.candidates=0",
        f"output_dir={folder}", "study.name=race",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    records = [r for r in Ledger(folder / "studies" / "race").records() if r.role != CONFIRMATION]
    return [(r.ended_at - began, key_of(r.params)) for r in records if r.ended_at and r.state != "failed"]


def seconds_to(share: float, tried: Sequence[tuple[float, Key]]) -> tuple[float, int] | None:
    """Seconds and trials to a share of the table's hypervolume; None where it was not reached."""
    known, seen = table(), set()
    for number, (seconds, key) in enumerate(tried, start=1):
        seen.add(key)
        if known.hypervolume(seen) >= share * known.best:
            return seconds, number
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--peer-trials", type=int, default=60)
    asked = parser.parse_args()
    require_quiet()
    lines = [
        "| search | trials, seconds in all | share of the hypervolume | trials to 95 % | seconds to 95 % |",
        "|---" * 5 + "|",
    ]
    for name, trials in zip(RACERS, (asked.trials, asked.peer_trials), strict=True):
        with TemporaryDirectory() as folder:
            tried = run(name, trials, Path(folder))
        reached = table().hypervolume({key for _, key in tried}) / table().best
        found = seconds_to(SHARE, tried)
        to_share = ("not reached", "not reached") if found is None else (str(found[1]), f"{found[0]:.0f}")
        lines.append(f"| {name} | {len(tried)}, {tried[-1][0]:.0f} | {reached:.1%} | {to_share[0]} | {to_share[1]} |")
        print(lines[-1], flush=True)
    command = f"python -m benchmarks.race --trials {asked.trials} --peer-trials {asked.peer_trials}"
    what = (
        "Both search the grid of the live table under its load, on live engines, one after the other; the clock starts "
        "with the command. Progress is judged by the table's means."
    )
    text = "\n\n".join(["# Two searches by the clock", provenance(command), what, "\n".join(lines)])
    (RESULTS / "race.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
