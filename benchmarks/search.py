"""Samplers against the live table: how many trials, and how many seconds, to nearly all of the hypervolume?

Usage: python -m benchmarks.search [--seeds 20] [--only NAME ...]

Every trial draws one of the table's repeats of its point, noise and failures included; progress is judged by the mean
over the repeats. The hypervolume is that of the feasible points tried, on logarithms where ratios matter, each
objective scaled to the range of the feasible points, a tenth beyond the worst as the reference.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from scipy import stats

from benchmarks.table import BASELINE, DATA, GRID, Point
from objectives import Direction
from optimize.samplers import LOG_SCALE_ATTR, EngineAware, LiveEngine, LogScaleGPSampler, grid

OBJECTIVES = {
    "qps": (Direction.MAXIMIZE, True),
    "p99_latency_s": (Direction.MINIMIZE, True),
    "memory_bytes": (Direction.MINIMIZE, True),
    "bleu": (Direction.MAXIMIZE, False),
}
"""Objective -> direction, and whether ratios matter."""
P99_MAX_S, BLEU_MIN_RATIO, ERRORS_MAX = 2.0, 0.95, 0.01
COLD_START_S = 33.0
REFERENCE = 1.1
SHARES = (0.90, 0.95)
Row = Mapping[str, Any]
Key = tuple[Any, ...]
SPACE: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(GRID["quantization"]),
    "batch_size": IntDistribution(0, len(GRID["batch_size"]) - 1),  # powers of four: steps of the logarithm
    "workers": IntDistribution(min(GRID["workers"]), max(GRID["workers"])),
    "beam_size": CategoricalDistribution(GRID["beam_size"]),
}
REQUEST_KNOBS = ("beam_size",)


class Table:
    """The measured grid.

    Attributes:
        rows: Point -> its repeats.
        truth: Point -> mean figure of each objective, where every repeat was measured.
        feasible: Points that keep every constraint by these means.
        start_s: Median seconds of a warm start.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows: dict[Key, list[Row]] = {}
        for row in rows:
            self.rows.setdefault(key_of(row), []).append(row)
        self.truth = {
            key: {name: _mean([r[name] for r in found], log) for name, (_, log) in OBJECTIVES.items()}
            | {"error_rate": statistics.fmean(r["error_rate"] for r in found)}
            for key, found in self.rows.items()
            if all(r["state"] == "completed" for r in found)
        }
        baseline = self.truth[key_of(BASELINE)]["bleu"]
        self.feasible = {k for k, figures in self.truth.items() if max(violations(figures, baseline).values()) <= 0}
        self.start_s = statistics.median(r["seconds.engine_start"] for r in rows if r["new_engine"])
        losses = np.array([self._loss(k) for k in self.feasible])
        self._low, self._high = losses.min(0), losses.max(0)
        self.best = self.hypervolume(self.feasible)

    def _loss(self, key: Key) -> list[float]:
        return [loss(self.truth[key][name], name) for name in OBJECTIVES]

    def hypervolume(self, keys: set[Key]) -> float:
        """Of the feasible points among these."""
        found = [k for k in keys if k in self.feasible]
        if not found:
            return 0.0
        scaled = (np.array([self._loss(k) for k in found]) - self._low) / (self._high - self._low)
        return float(compute_hypervolume(scaled, np.full(len(OBJECTIVES), REFERENCE)))


@cache
def table() -> Table:
    return Table(pq.read_table(DATA).to_pylist())


def key_of(point: Mapping[str, Any]) -> Key:
    return tuple(point[knob] for knob in GRID)


def point_of(params: Mapping[str, Any]) -> Point:
    return {**params, "batch_size": GRID["batch_size"][params["batch_size"]]}


def params_of(point: Mapping[str, Any]) -> dict[str, Any]:
    return {**point, "batch_size": GRID["batch_size"].index(point["batch_size"])}


def loss(value: float, name: str) -> float:
    """To be minimized, on the scale that matters."""
    direction, log = OBJECTIVES[name]
    scaled = math.log(value) if log else value
    return scaled if direction is Direction.MINIMIZE else -scaled


def _mean(values: Sequence[float], log: bool) -> float:
    return math.exp(statistics.fmean(map(math.log, values))) if log else statistics.fmean(values)


def violations(figures: Mapping[str, float], baseline_bleu: float) -> dict[str, float]:
    """The chat study's constraints, as shares of their limits; zero or less is kept."""
    return {
        "p99": figures["p99_latency_s"] / P99_MAX_S - 1,
        "bleu": 1 - figures["bleu"] / (BLEU_MIN_RATIO * baseline_bleu),
        "errors": (figures["error_rate"] - ERRORS_MAX) / ERRORS_MAX,
    }


@dataclass(frozen=True)
class Policy:
    """A sampler and how its trials are told.

    Attributes:
        sampler: From a seed to a sampler.
        constraints: Told the constraints, and what cannot be measured as a violated one with the worst values seen;
            otherwise what cannot be measured is told as FAIL, and constraints are unknown to the search.
        warm: Engines start warm, and stay for settings of requests; otherwise each trial starts one cold.
        trials: How many to replay.
    """

    sampler: Callable[[int], BaseSampler]
    constraints: bool = True
    warm: bool = True
    trials: int = 60


POLICIES = {
    "random": Policy(lambda seed: RandomSampler(seed=seed), trials=160),
    "Sobol": Policy(lambda seed: QMCSampler(seed=seed, scramble=True), trials=160),
    "grid, random order": Policy(lambda seed: grid(SPACE, seed=seed), trials=160),
    "NSGA-II, population 10": Policy(lambda seed: NSGAIISampler(seed=seed, population_size=10), trials=160),
    "TPE, failures told as FAIL": Policy(lambda seed: TPESampler(seed=seed), constraints=False, warm=False, trials=120),
    "TPE multivariate, constraints": Policy(
        lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=8), trials=120
    ),
    "GP on logarithms": Policy(lambda seed: LogScaleGPSampler(seed=seed, fill=False, neutral=False, fresh=False)),
    "GP, filling": Policy(lambda seed: LogScaleGPSampler(seed=seed, neutral=False, fresh=False)),
    "GP, neutral": Policy(lambda seed: LogScaleGPSampler(seed=seed, fill=False, fresh=False)),
    "GP, fresh": Policy(lambda seed: LogScaleGPSampler(seed=seed, fill=False, neutral=False)),
    "ours": Policy(lambda seed: LogScaleGPSampler(seed=seed)),
}
PEER = "TPE, failures told as FAIL"


@dataclass
class Replay:
    """What one study found.

    Attributes:
        hypervolume: After each trial, as a share of the best known.
        seconds: Until then: starts, measuring, and the sampler's own thinking.
        wasted: Trials that gave no measurement, or repeated a known failure.
        repeated_failures: The latter.
        thinking_s: Of the last ten asks, the median.
    """

    hypervolume: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wasted: int = 0
    repeated_failures: int = 0
    thinking_s: float = 0.0

    def first(self, share: float) -> int | None:
        """How many trials it took to this share."""
        return next((n + 1 for n, found in enumerate(self.hypervolume) if found >= share), None)


def replay(name: str, seed: int) -> Replay:
    """One study against the table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    policy, found = POLICIES[name], Replay()
    study = optuna.create_study(directions=[d.value for d, _ in OBJECTIVES.values()], sampler=policy.sampler(seed))
    study.set_user_attr(LOG_SCALE_ATTR, [log for _, log in OBJECTIVES.values()])
    study.enqueue_trial(params_of(BASELINE))
    known, rng = table(), random.Random(seed)
    tried: set[Key] = set()
    failed: set[Key] = set()
    live: Key | None = None
    spent_s, thinking = 0.0, []
    for _ in range(policy.trials):
        exhausted = getattr(study.sampler, "is_exhausted", None)
        if exhausted is not None and exhausted(study):
            break
        began = time.perf_counter()
        if isinstance(study.sampler, EngineAware):
            study.sampler.live = _live(live, known)
        trial = study.ask(SPACE)
        thinking.append(time.perf_counter() - began)
        point = point_of(trial.params)
        key, row = key_of(point), rng.choice(known.rows[key_of(point)])
        new_engine = not policy.warm or live != key[:-1]
        start_s = (known.start_s if policy.warm else COLD_START_S) if new_engine else 0.0
        # What is known to fail is answered from memory.
        spent_s += thinking[-1] + (0.0 if key in failed and policy.constraints else start_s + _measuring_s(row))
        measured = row["state"] == "completed"
        live = key[:-1] if measured else None
        found.wasted += not measured
        found.repeated_failures += key in failed and not measured
        failed |= set() if measured else {key}
        _tell(study, trial, row, policy, known)
        tried.add(key)
        found.hypervolume.append(known.hypervolume(tried) / known.best)
        found.seconds.append(spent_s)
    found.thinking_s = statistics.median(thinking[-10:])
    return found


def _live(live: Key | None, known: Table) -> LiveEngine | None:
    if live is None:
        return None
    engine = params_of(dict(zip(GRID, (*live, GRID["beam_size"][0]), strict=True)))
    knobs = {k: v for k, v in engine.items() if k not in REQUEST_KNOBS}
    trial_s = statistics.median(_measuring_s(r) for rows in known.rows.values() for r in rows)
    return LiveEngine(knobs, known.start_s, trial_s)


def _measuring_s(row: Row) -> float:
    return float(row["seconds.total"]) - float(row["seconds.engine_start"] or 0.0)


def _tell(study: optuna.Study, trial: optuna.Trial, row: Row, policy: Policy, known: Table) -> None:
    measured = row["state"] == "completed"
    if not policy.constraints:
        if measured:
            study.tell(trial, [row[name] for name in OBJECTIVES])
        else:
            study.tell(trial, state=TrialState.FAIL)
        return
    baseline = known.truth[key_of(BASELINE)]["bleu"]
    broken = violations(row, baseline) if measured else dict.fromkeys(("p99", "bleu", "errors"), 1.0)
    for name, value in {"runs": -1.0 if measured else 1.0, **broken}.items():
        trial.set_constraint(name, value)
    trial.set_user_attr("imputed", not measured)
    if measured:
        study.tell(trial, [row[name] for name in OBJECTIVES])
        return
    seen = [t.values for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    worst = [
        (min if direction is Direction.MAXIMIZE else max)((v[i] for v in seen), default=0.0)
        for i, (direction, _) in enumerate(OBJECTIVES.values())
    ]
    study.tell(trial, worst)


def to_share(replays: Sequence[Replay], share: float, limit: int) -> list[float]:
    """Trials to a share of the hypervolume; one more than were replayed where it was not reached."""
    return [float(r.first(share) or limit + 1) for r in replays]


def report(found: Mapping[str, Sequence[Replay]], ours: str) -> str:
    lines = [
        "| sampler | trials to 90 % | to 95 % (quartiles) | reached | seconds to 95 % | hypervolume after 30 trials | "
        "gave no measurement | known failures repeated | thinking | ours is faster: p |",
        "|---" * 10 + "|",
    ]
    best = to_share(found[ours], 0.95, POLICIES[ours].trials) if ours in found else []
    for name, replays in found.items():
        limit = POLICIES[name].trials
        to_90, to_95 = (to_share(replays, share, limit) for share in SHARES)
        seconds = [r.seconds[r.first(0.95) - 1] if r.first(0.95) else math.inf for r in replays]  # type: ignore[operator]
        # Capped alike, or not arriving in few trials would rank above arriving in many.
        cap = float(min(limit, POLICIES[ours].trials) + 1)
        low, _, high = statistics.quantiles(to_95, n=4)
        reached = sum(r.first(0.95) is not None for r in replays)
        at_30 = statistics.median(r.hypervolume[min(29, len(r.hypervolume) - 1)] for r in replays)
        p = "" if name == ours or not best else f"{_p([min(v, cap) for v in best], [min(v, cap) for v in to_95]):.2g}"
        wasted = sum(r.wasted for r in replays) / sum(len(r.hypervolume) for r in replays)
        cells = [
            name, _trials(to_90, limit), f"{_trials(to_95, limit)} ({low:.0f}, {high:.0f})",
            f"{reached} of {len(replays)}", f"{statistics.median(seconds):.0f}", f"{at_30:.3f}", f"{wasted:.0%}",
            str(sum(r.repeated_failures for r in replays)),
            f"{statistics.median(r.thinking_s for r in replays):.2f} s", p,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return float(stats.mannwhitneyu(ours, theirs, alternative="less").pvalue)


def _trials(counts: Sequence[float], limit: int) -> str:
    median = statistics.median(counts)
    return f"more than {limit}" if median > limit else f"{median:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(POLICIES))
    parser.add_argument("--ours", default="ours")
    asked = parser.parse_args()
    known = table()
    print(f"{len(known.rows)} points, {len(known.truth)} measured, {len(known.feasible)} feasible")
    with ProcessPoolExecutor() as pool:
        jobs = {name: [pool.submit(replay, name, seed) for seed in range(asked.seeds)] for name in asked.only}
        found = {name: [job.result() for job in started] for name, started in jobs.items()}
    print(report(found, asked.ours))


if __name__ == "__main__":
    main()
