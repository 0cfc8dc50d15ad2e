"""The cost of searching in parallel: the same search with 1, 2, 4 and 8 engines at a time, on the live table.

Usage: python -m benchmarks.parallel [--seeds 20]

A replay (`benchmarks/replay.py`) in which several engines measure at once: each takes as long as the table says, and
whenever one is done the sampler is asked for its next point, knowing of the others only that they are under way. A
trial more or less is the loss in sample efficiency; the clock is the gain. Writes `docs/results/parallel.md`.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from benchmarks.common import RESULTS, processes, provenance
from benchmarks.ground_truth import (
    CHAT_P99_MAX_S,
    OBJECTIVES,
    Key,
    Row,
    Table,
    described,
    is_measured,
    is_refused,
    measuring_s,
    table,
)
from benchmarks.live_space import SATURATION, SPACE, key_at, params_of
from benchmarks.replay import Policy, Step, live_engine, tell, tell_infeasible
from benchmarks.scoring import shares, trials_to
from benchmarks.tabular import BASELINE
from optimize.search.gp_sampler import LOG_SCALE_ATTR, LogScaleGPSampler
from optimize.search.live_engine import EngineAware

WORKERS = (1, 2, 4, 8)
SHARES = (0.90, 0.95)
_TRIES = 2
"""Asks before a worker waits for news, where all it is offered is under way already."""


class Blind(LogScaleGPSampler):
    """The same search without regard to trials under way, to show their worth."""

    def _under_way(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
        return []


POLICIES = {
    "ours": Policy(lambda seed: LogScaleGPSampler(seed=seed, saturation=SATURATION), trials=60),
    "ours, blind to trials under way": Policy(lambda seed: Blind(seed=seed, saturation=SATURATION), trials=60),
    "TPE multivariate, constant liar": Policy(
        lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8), trials=160
    ),
    "random": Policy(lambda seed: RandomSampler(seed=seed), trials=160),
}


@dataclass(order=True)
class Busy:
    """An engine at work.

    Attributes:
        until_s: When its trial ends.
        number: The trial's, which decides where two end at once.
        worker: Which engine.
        begun: The trial with its point and reading, to tell then.
    """

    until_s: float
    number: int
    worker: int
    begun: Any = field(compare=False)


@dataclass
class Outcome:
    """A replay in parallel.

    Attributes:
        steps: In the order in which they ended.
        repeats: Asks that offered what was under way already.
    """

    steps: list[Step]
    repeats: int = 0


class Replay:
    """One study with several engines.

    Args:
        policy: How it searches.
        seed: Of the sampler and of which repeat is drawn.
        measurements: The table.
        workers: Engines at a time.
        p99_max_s: Its limit on latency.
    """

    def __init__(
        self, policy: Policy, seed: int, measurements: Table, workers: int, p99_max_s: float = CHAT_P99_MAX_S
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        directions = [StudyDirection[d.name] for d, _ in OBJECTIVES.values()]
        self._study = optuna.create_study(directions=directions, sampler=policy.sampler(seed))
        self._study.set_user_attr(LOG_SCALE_ATTR, [log for _, log in OBJECTIVES.values()])
        self._policy, self._measurements, self._workers, self._p99_max_s = policy, measurements, workers, p99_max_s
        self._rng = random.Random(seed)
        self._live: dict[int, Key | None] = {}
        self._busy: list[Busy] = []
        self._free_s = 0.0  # when the coordinator, which asks for one trial at a time, is free
        self.outcome = Outcome([])

    def run(self, trials: int | None = None) -> Outcome:
        """Replay, the baseline first and alone."""
        trials, steps = trials or self._policy.trials, self.outcome.steps
        self._study.enqueue_trial(params_of(BASELINE))
        self._begin(0, 0.0)
        idle: list[int] = []
        while self._busy and len(steps) < trials:
            ended = heapq.heappop(self._busy)
            self._end(ended)
            idle = list(range(self._workers)) if len(steps) == 1 else [*idle, ended.worker]
            while idle and len(steps) + len(self._busy) < trials and self._begin(idle[0], ended.until_s):
                idle.pop(0)  # one who is offered nothing new waits for news, and so do those behind
        return self.outcome

    def _begin(self, worker: int, now_s: float) -> bool:
        """Ask for a trial and begin it; False where its point is under way already."""
        began = time.perf_counter()
        if isinstance(self._study.sampler, EngineAware):
            self._study.sampler.live = live_engine(self._live.get(worker), self._measurements)
        trial = self._ask()
        thinking_s = time.perf_counter() - began
        self._free_s = max(self._free_s, now_s) + thinking_s
        if trial is None:
            return False
        key = key_at(trial.params)
        row = self._rng.choice(self._measurements.rows[key])
        from_memory = any(s.key == key and not is_measured(s.row) for s in self.outcome.steps)
        start_s = 0.0 if self._live.get(worker) == key[:-1] else self._measurements.start_s
        took_s = 0.0 if from_memory else start_s + measuring_s(row)
        self._live[worker] = key[:-1] if is_measured(row) else None
        begun = (trial, key, row, thinking_s, from_memory)
        heapq.heappush(self._busy, Busy(self._free_s + took_s, trial.number, worker, begun))
        return True

    def _ask(self) -> optuna.Trial | None:
        running, tries = [b.begun[0].params for b in self._busy], 0
        while tries < _TRIES:
            trial = self._study.ask(SPACE)
            row = self._measurements.rows[key_at(trial.params)][0]
            if self._policy.constraints and is_refused(row):
                tell_infeasible(self._study, trial, row, self.outcome.steps, self._p99_max_s)
            elif trial.params not in running:
                return trial
            else:
                tries += 1
                self.outcome.repeats += 1
                self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _end(self, ended: Busy) -> None:
        trial: optuna.Trial
        key: Key
        row: Row
        trial, key, row, thinking_s, from_memory = ended.begun
        self.outcome.steps.append(Step(key, row, thinking_s, ended.until_s, from_memory))
        tell(self._study, trial, self.outcome.steps, self._policy, self._p99_max_s)


def one(name: str, workers: int, seed: int) -> Outcome:
    return Replay(POLICIES[name], seed, table(), workers).run()


def compared(outcomes_of: Mapping[tuple[str, int], Sequence[Outcome]], measurements: Table) -> str:
    """One row per sampler and number of engines."""
    lines = [
        "| sampler | engines | trials to 90 % | to 95 % (quartiles) | of one engine's | seconds to 95 % | "
        "times as fast | offered again | thinking |",
        "|---" * 9 + "|",
    ]
    for (name, workers), outcomes in outcomes_of.items():
        studies, limit = [o.steps for o in outcomes], POLICIES[name].trials
        to_90, to_95 = ([_trials_to(share, steps, measurements) for steps in studies] for share in SHARES)
        alone = statistics.median(_trials_to(0.95, o.steps, measurements) for o in outcomes_of[name, 1])
        seconds = statistics.median(_seconds_to(0.95, steps, measurements) for steps in studies)
        before = statistics.median(_seconds_to(0.95, o.steps, measurements) for o in outcomes_of[name, 1])
        low, middle, high = statistics.quantiles([min(n, limit + 1.0) for n in to_95], n=4)
        cells = [
            name, str(workers), _shown(statistics.median(to_90), limit),
            f"{_shown(middle, limit)} ({low:.0f} to {high:.0f})",
            f"{middle / alone:.0%}" if math.isfinite(alone) else "", f"{seconds:.0f}" if math.isfinite(seconds) else "",
            f"{before / seconds:.1f}" if math.isfinite(before) and math.isfinite(seconds) else "",
            str(sum(o.repeats for o in outcomes)),
            f"{statistics.median(s.thinking_s for steps in studies for s in steps):.2f} s",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _trials_to(share: float, steps: Sequence[Step], measurements: Table) -> float:
    return trials_to(share, shares(steps, measurements)) or math.inf


def _seconds_to(share: float, steps: Sequence[Step], measurements: Table) -> float:
    count = _trials_to(share, steps, measurements)
    return steps[int(count) - 1].spent_s if math.isfinite(count) else math.inf


def _shown(count: float, limit: int) -> str:
    return f"{count:g}" if count <= limit else f"more than {limit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    with processes() as pool:
        jobs = {
            (name, workers): [pool.submit(one, name, workers, seed) for seed in range(args.seeds)]
            for name in POLICIES
            for workers in WORKERS
        }
        outcomes_of = {key: [job.result() for job in started] for key, started in jobs.items()}
    text = compared(outcomes_of, table())
    print(text)
    what = (
        f"Each study of {args.seeds} is replayed on the live table: what an engine measures, and how long, is read "
        "there; that several measure at once is simulated, on one clock on which the sampler thinks for one of "
        "them at a time. *Of one engine's*: trials to 95 % as a share of those that one engine at a time needs, so "
        "what is over 100 % is lost to knowing less. *Offered again*: points that the sampler offered while "
        "they were under way, all studies together; they are not run twice."
    )
    title = "# Searching with several engines at a time"
    source = provenance("python -m benchmarks.parallel").replace("Measured", "Replayed (simulated clock)")
    (RESULTS / "parallel.md").write_text(
        "\n\n".join([title, source, described(table()), what, text]) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
