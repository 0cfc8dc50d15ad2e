"""Two searches on the live demo, by the clock: this project's and the nearest peer's.

Usage: python -m benchmarks.race [--times 5] [--minutes 25]

The peer starts an engine cold for every trial, searches with TPE as shipped, knows no constraints, and gets FAIL for
what cannot be measured. Both search the grid of the live table with its load; progress is judged by the table's means,
not by the readings of the race, so that luck does not count. The recipe that vLLM refuses there is left out of both:
TPE learns nothing from FAIL, and would ask for it for ever.

The table's machine may be another one, with other best points. So it also reports after how many of
its trials each search had that share of what all of them came to, by its own readings.

Ours ends when it is there, the peer when it is there or has had so many times the seconds of ours.
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

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.ground_truth import OBJECTIVES, Key, hypervolume, key_of, loss, table
from benchmarks.tabular import ENDED, OVERRIDES
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role
from optimize.search.optuna_compat import suggest

SHARE = 0.95
_POLL_S = 5.0


class PlainTPE(BaseSampler):
    """TPE as shipped, which gets FAIL for trials without a measurement and knows no constraint."""

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
        return suggest(self._trial, param_name, param_distribution)

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


OURS, PEER = "this project", "cold starts, TPE, FAIL"
RACERS = {
    OURS: [],
    PEER: [
        "engine.start=cold", "study.reuse_engines=false",
        "sampler=random", "sampler._target_=benchmarks.race.PlainTPE", "study.max_failures_in_a_row=1000",
    ],
}  # fmt: skip
BOTH = [
    *OVERRIDES, "search_space.quantization=[fp16,fp32,int8,mixed8]", "+baseline.quantization=fp16",
    "study.name=race", "study.trials=1000",
    "confirm.candidates=0",
]  # fmt: skip
Tried = list[tuple[float, Key]]
"""(Seconds since the command was given, configuration tried) of each trial that ended with a result."""


def run(name: str, limit_s: float, folder: Path) -> tuple[Tried, int | None]:
    """What was tried until the share was reached, or this long; and trials to the share by what was read of them."""
    began, ledger = time.monotonic(), Ledger(folder / "studies" / "race")
    command = [sys.executable, "-m", "optimize", *BOTH, *RACERS[name], f"output_dir={folder}"]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        study = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        while (
            study.poll() is None
            and time.monotonic() - began < limit_s
            and not seconds_to(SHARE, tried(ended(ledger), began))
        ):
            time.sleep(_POLL_S)
        code = study.poll()
    finally:  # an engine that outlives an interrupt would distort whatever is measured next
        study.terminate()
        study.wait()
    if code is not None:
        raise SystemExit(f"{name}: ended by itself, exit code {code}\n{Path(log.name).read_text()[-4000:]}")
    records = ended(ledger)
    return tried(records, began), trials_by_own_readings(SHARE, records)


def ended(ledger: Ledger) -> list[TrialRecord]:
    """The trials that ended with a result."""
    return [r for r in ledger.records() if r.role != Role.CONFIRMATION and r.ended_at and r.state in ENDED]


def tried(records: Sequence[TrialRecord], began: float) -> Tried:
    return [((r.ended_at or began) - began, key_of(r.params)) for r in records]


def trials_by_own_readings(share: float, records: Sequence[TrialRecord]) -> int | None:
    """Trials to a share of the hypervolume that all of these came to, by what was read of them: luck counts, and what
    none of them tried does not. None where no trial kept every constraint.
    """
    losses = [[loss(r.estimates[name].value, name) for name in OBJECTIVES] if r.feasible else None for r in records]
    measured = np.array([each for each in losses if each])
    if not measured.size:
        return None
    scaled = (measured - measured.min(0)) / np.maximum(np.ptp(measured, axis=0), 1e-9)
    numbers = [number for number, each in enumerate(losses, start=1) if each]
    threshold = share * hypervolume(scaled)
    return next(number for n, number in enumerate(numbers, start=1) if hypervolume(scaled[:n]) >= threshold)


def seconds_to(share: float, history: Tried) -> tuple[float, int] | None:
    """Seconds and trials to a share of the table's hypervolume; None where it was not reached."""
    measurements, keys = table(), set()
    for number, (seconds, key) in enumerate(history, start=1):
        keys.add(key)
        if measurements.hypervolume(keys) >= share * measurements.best:
            return seconds, number
    return None


def verdict(ours: tuple[float, int], theirs: tuple[float, int] | None, peer_s: float) -> str:
    """One sentence: how many times faster.

    Args:
        ours: Seconds and trials to the share.
        theirs: The peer's; None where it did not get there.
        peer_s: How long it was run for.
    """
    if theirs is None:
        return (
            f"Ours was at {SHARE:.0%} after {ours[0]:.0f} s; the other was not there after {peer_s:.0f} s, and was not "
            f"run for longer: more than {peer_s / ours[0]:.1f} times faster."
        )
    return f"To {SHARE:.0%} ours is {theirs[0] / ours[0]:.1f} times faster."


def row(name: str, history: Tried, reached: tuple[float, int] | None, by_own_readings: int | None) -> str:
    share = table().hypervolume({key for _, key in history}) / table().best
    seconds, trials = (f"{reached[0]:.0f}", str(reached[1])) if reached else ("not reached", "not reached")
    cells = [
        name,
        f"{len(history)}, {history[-1][0]:.0f}",
        f"{share:.1%}",
        trials,
        seconds,
        str(by_own_readings or "–"),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=float, default=5.0, help="limit of the peer's seconds, as a multiple of ours")
    parser.add_argument("--minutes", type=float, default=25.0, help="ours at most")
    args = parser.parse_args()
    require_quiet()
    lines = [
        "| search | trials, seconds in all | share of the hypervolume | trials to 95 % | seconds to 95 % "
        "| trials to 95 % of its own last, by its own readings |",
        "|---" * 6 + "|",
    ]
    with TemporaryDirectory() as folder:
        history, by_own_readings = run(OURS, args.minutes * 60, Path(folder) / "ours")
        ours = seconds_to(SHARE, history)
        lines.append(row(OURS, history, ours, by_own_readings))
        print(lines[-1], flush=True)
        if ours is None:
            raise SystemExit(f"{OURS}: {SHARE:.0%} was not reached, there is nothing to compare")
        limit_s = args.times * ours[0]
        history, by_own_readings = run(PEER, limit_s, Path(folder) / "peer")
    theirs = seconds_to(SHARE, history)
    lines.append(row(PEER, history, theirs, by_own_readings))
    print(lines[-1], flush=True)
    command = f"python -m benchmarks.race --times {args.times:g} --minutes {args.minutes:g}"
    what = (
        "Both search the grid of the live table under its load, but for the recipe that vLLM refuses, on live engines, "
        "one after the other; the clock starts with the command. Progress is judged by the table's means. What is "
        "known to fail is answered from memory, and costs neither any time, for both. One run of each."
    )
    head = ["# Two searches by the clock", provenance(command), what]
    text = "\n\n".join([*head, "\n".join(lines), verdict(ours, theirs, limit_s)])
    (RESULTS / "race.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
