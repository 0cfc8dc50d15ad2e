"""A search against the live table: every trial draws one of the repeats of its point, noise and failures included."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from benchmarks.ground_truth import (
    OBJECTIVES,
    Key,
    Row,
    Table,
    figures_of,
    is_measured,
    is_refused,
    is_too_slow,
    limits,
    measuring_s,
    pooled,
)
from benchmarks.live_space import SPACE, key_at, params_of
from benchmarks.tabular import BASELINE, GRID, Point
from objectives import Direction, Estimate
from optimize.decision.constraints import broken_without_figures, violations
from optimize.decision.recommendation import Candidate
from optimize.search.gp_sampler import GIVEN_POINTS_ATTR, LOG_SCALE_ATTR
from optimize.search.live_engine import EngineAware, LiveEngine

COLD_START_S = 33.0
"""Start of an engine without the warm start; docs/results/warm_parity.md."""
_REQUEST_KNOB = "beam_size"


@dataclass(frozen=True)
class Policy:
    """A sampler, and how its trials are run and reported to it.

    Attributes:
        sampler: From a seed to a sampler.
        constraints: The search knows the constraints. A trial without a measurement breaks one, with the worst values
            so far; configurations that vLLM refuses are known before the study and cost no trial. Otherwise a trial
            without a measurement is told as FAIL, and the search knows no constraints.
        pooled: Quality is that of all answers so far to the same quantization and beam.
        warm: Engines start warm, and stay for settings of requests; otherwise each trial starts one cold.
        trials: How many to replay.
    """

    sampler: Callable[[int], BaseSampler]
    constraints: bool = True
    pooled: bool = True
    warm: bool = True
    trials: int = 45


@dataclass(frozen=True)
class Step:
    """One trial of a replay.

    Attributes:
        key: The point.
        row: The reading of it.
        thinking_s: Seconds the sampler took.
        spent_s: Seconds from the study's begin to the trial's end.
        from_memory: The point was known to fail, and not tried again.
    """

    key: Key
    row: Row
    thinking_s: float
    spent_s: float
    from_memory: bool


def replay(
    policy: Policy, seed: int, measurements: Table, p99_max_s: float, repeats: Sequence[int] = (0, 1),
    first: Sequence[Point] = (), trials: int | None = None,
) -> list[Step]:  # fmt: skip
    """One study.

    Args:
        policy: How it searches.
        seed: Of the sampler and of which repeat is drawn.
        measurements: The table.
        p99_max_s: Its limit on latency.
        repeats: Which repeats are drawn from.
        first: Points to try first, after the baseline.
        trials: How many, where not as many as the policy's.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    study = optuna.create_study(directions=[d.value for d, _ in OBJECTIVES.values()], sampler=policy.sampler(seed))
    study.set_user_attr(LOG_SCALE_ATTR, [log for _, log in OBJECTIVES.values()])
    study.set_user_attr(GIVEN_POINTS_ATTR, len(first))
    for point in (BASELINE, *first):
        study.enqueue_trial(params_of(point))
    rng, steps, live, spent_s = random.Random(seed), list[Step](), None, 0.0
    while len(steps) < (trials or policy.trials) and not _is_exhausted(study):
        began = time.perf_counter()
        if isinstance(study.sampler, EngineAware):
            study.sampler.live = live_engine(live, measurements)
        trial = study.ask(SPACE)
        thinking_s = time.perf_counter() - began
        key = key_at(trial.params)
        row = rng.choice([r for r in measurements.rows[key] if r["repeat"] in repeats])
        if policy.constraints and is_refused(row):
            spent_s += thinking_s
            tell_infeasible(study, trial, row, steps, p99_max_s)
            continue
        start_s = (
            (measurements.start_s if policy.warm else COLD_START_S) if live != key[:-1] or not policy.warm else 0.0
        )
        # What is known to fail is answered from memory, by those who have one.
        from_memory = policy.constraints and any(s.key == key and not is_measured(s.row) for s in steps)
        spent_s += thinking_s + (0.0 if from_memory else start_s + measuring_s(row))
        live = key[:-1] if is_measured(row) else None
        steps.append(Step(key, row, thinking_s, spent_s, from_memory))
        tell(study, trial, steps, policy, p99_max_s)
    return steps


def _is_exhausted(study: optuna.Study) -> bool:
    exhausted = getattr(study.sampler, "is_exhausted", None)
    return exhausted is not None and bool(exhausted(study))


def live_engine(live: Key | None, measurements: Table) -> LiveEngine | None:
    if live is None:
        return None
    engine = params_of(dict(zip(GRID, (*live, GRID[_REQUEST_KNOB][0]), strict=True)))
    return LiveEngine(
        {k: v for k, v in engine.items() if k != _REQUEST_KNOB}, measurements.start_s, measurements.trial_s
    )


def figures(steps: Sequence[Step], with_pool: bool = True) -> Iterator[tuple[int, dict[str, Estimate]]]:
    """Number and figures of each measured trial, with the pooled quality of all trials that give the same answers."""
    pool = pooled([s.row for s in steps if is_measured(s.row)]) if with_pool else None
    for number, step in enumerate(steps):
        if is_measured(step.row):
            yield number, figures_of(step.row, pool)


def candidates(steps: Sequence[Step], p99_max_s: float) -> list[Candidate]:
    """The measured trials, the first of them the baseline."""
    by_number = dict(figures(steps))
    return [
        Candidate(
            number=number,
            params=dict(zip(GRID, steps[number].key, strict=True)),
            estimates=estimates,
            feasible=all(v <= 0 for v in violations(limits(p99_max_s), estimates, by_number.get(0)).values()),
            baseline=number == 0,
        )
        for number, estimates in by_number.items()
    ]


def constraints(steps: Sequence[Step], p99_max_s: float) -> list[dict[str, float]]:
    """Of each trial: constraint -> by which share of its limit it is broken; unmeasured, only what it broke."""
    by_number = dict(figures(steps))
    return [
        violations(limits(p99_max_s), by_number[number], by_number.get(0))
        if number in by_number
        else broken_without_figures(limits(p99_max_s), is_too_slow(step.row))
        for number, step in enumerate(steps)
    ]


def tell(study: optuna.Study, trial: optuna.Trial, steps: Sequence[Step], policy: Policy, p99_max_s: float) -> None:
    """Tell the trial that the last step was."""
    by_number = dict(figures(steps, policy.pooled))
    ours = by_number.get(len(steps) - 1)
    if ours is None and policy.constraints:
        tell_infeasible(study, trial, steps[-1].row, steps, p99_max_s)
    elif ours is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        if policy.constraints:
            for name, value in violations(limits(p99_max_s), ours, by_number.get(0)).items():
                trial.set_constraint(name, value)
            trial.set_user_attr("imputed", False)
        study.tell(trial, [ours[name].value for name in OBJECTIVES])


def tell_infeasible(
    study: optuna.Study, trial: optuna.Trial, row: Row, steps: Sequence[Step], p99_max_s: float
) -> None:  # fmt: skip
    """Tell a trial without a measurement: the constraints it broke, and the worst values so far."""
    for name, value in broken_without_figures(limits(p99_max_s), is_too_slow(row)).items():
        trial.set_constraint(name, value)
    trial.set_user_attr("imputed", True)
    measured, worst = dict(figures(steps)).values(), {Direction.MAXIMIZE: min, Direction.MINIMIZE: max}
    study.tell(trial, [worst[d]((f[n].value for f in measured), default=0.0) for n, (d, _) in OBJECTIVES.items()])
