"""Scores of a replayed study, judged by the whole table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ground_truth import DIRECTIONS, Key, Row, Table, answers_key, as_estimates, is_measured, key_of, limits
from benchmarks.replay import SPACE, Step, candidates, params_of
from benchmarks.tabular import BASELINE, GRID, LOOKED_AT, LOOKS_S
from objectives import Estimate
from optimize.decision.futility import Futility
from optimize.decision.recommendation import Candidate, SingleReadings, recommend
from optimize.pareto import front, spread
from optimize.search.stopping import LEAST_TRIALS, stopping_criterion

ROUNDS = 3
"""Of a confirmation, as configured by default."""


def shares(steps: Sequence[Step], measurements: Table) -> list[float]:
    """After each trial: the hypervolume found, as a share of the table's."""
    return [measurements.hypervolume(s.key for s in steps[: n + 1]) / measurements.best for n in range(len(steps))]


def trials_to(share: float, reached_shares: Sequence[float]) -> int | None:
    """How many trials it took to a share of the hypervolume; None where it was not reached."""
    return next((n for n, reached in enumerate(reached_shares, start=1) if reached >= share), None)


def repeated_failures(steps: Sequence[Step]) -> int:
    """Number of trials whose point had failed to give a measurement before, and failed again."""
    failed, repeats = set[Key](), 0
    for step in steps:
        if not is_measured(step.row):
            repeats += step.key in failed
            failed.add(step.key)
    return repeats


@dataclass
class Cut:
    """Effect that cutting measured trials short would have had.

    Attributes:
        trials: Measured trials, without the baseline.
        cut: How many would have been cut short.
        window_s: Seconds of all their windows.
        saved_s: Seconds of windows that would have been saved.
        wrong: Cut, although the whole reading kept the constraints and no trial so far was better in every objective.
        lost: Cut, although the point belongs to the table's own front.
    """

    trials: int = 0
    cut: int = 0
    window_s: float = 0.0
    saved_s: float = 0.0
    wrong: int = 0
    lost: int = 0

    def __add__(self, other: Cut) -> Cut:
        return Cut(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def cut_short(steps: Sequence[Step], measurements: Table, p99_max_s: float) -> Cut:
    """Effect of looks at 2 and 3 seconds on a study's trials."""
    total, best = Cut(), true_front(measurements)
    for n, step in enumerate(steps):
        if not n or not is_measured(step.row):
            continue
        total.trials += 1
        total.window_s += step.row["seconds.window"]
        before = candidates(steps[:n], p99_max_s)
        rivals = [c for c in before if c.feasible]
        alike = [c for c in before if answers_key(key_of(c.params)) == answers_key(step.key)]
        futility = Futility(
            limits(p99_max_s), DIRECTIONS, rivals, before[0].estimates,
            {"bleu": alike[-1].estimates["bleu"]} if alike else {},
        )  # fmt: skip
        at_s = next((s for s in LOOKS_S if (figures := look(step.row, s)) and futility.hopeless(figures)), None)
        if at_s is None or at_s >= step.row["seconds.window"]:
            continue
        total.cut += 1
        total.saved_s += step.row["seconds.window"] - at_s
        full = candidates(steps[: n + 1], p99_max_s)[-1]
        total.wrong += full.feasible and _is_on_front(full, rivals)
        total.lost += step.key in best
    return total


def look(row: Row, look_s: float) -> dict[str, Estimate]:
    """Figures of a trial `look_s` seconds into its window; memory is complete by then."""
    ends = {name: (row[f"at {look_s:g} s.{name}.low"], row[f"at {look_s:g} s.{name}.high"]) for name in LOOKED_AT}
    figures = {
        name: Estimate((low + high) / 2, low, high, 1, "") for name, (low, high) in ends.items() if low is not None
    }
    names = ("value", "low", "high")
    memory = dict(zip(names, (row["memory_bytes"], row["memory_bytes.low"], row["memory_bytes.high"]), strict=True))
    return {**figures, "memory_bytes": Estimate(**memory, n=1, unit="bytes")} if figures else {}


def true_front(measurements: Table) -> set[Key]:
    """The feasible points that no other beats, by the table's means."""
    keys = sorted(measurements.feasible, key=str)
    return {keys[i] for i in front([as_estimates(measurements.truth[k]) for k in keys], DIRECTIONS)}


def _is_on_front(candidate: Candidate, rivals: Sequence[Candidate]) -> bool:
    return len(rivals) in front([c.estimates for c in (*rivals, candidate)], DIRECTIONS)


@dataclass(frozen=True)
class Stop:
    """Where `search.until=noise` would have ended a study.

    Attributes:
        trials: Number of trials before the end.
        regret: Shortfall of the best score so far from the table's best, as a share of it.
        gain: Expected gain of more trials.
    """

    trials: int
    regret: float
    gain: float


def stop(
    steps: Sequence[Step], measurements: Table, p99_max_s: float, weights: dict[str, float], since: int = LEAST_TRIALS
) -> Stop | None:
    """The end of a study by `search.until=noise`, from `since` trials on; None where it would have gone on."""
    for n in range(since, len(steps) + 1):
        recommendation = recommend(candidates(steps[:n], p99_max_s), DIRECTIONS, weights)
        if recommendation is None:
            continue
        scores = {c.number: recommendation.scores[c.number] for c in recommendation.considered if c.feasible}
        params = [params_of(dict(zip(GRID, s.key, strict=True))) for s in steps[:n]]
        criterion = stopping_criterion(SPACE, params, [scores.get(i) for i in range(n)], ROUNDS)
        if criterion.met:
            return Stop(n, regret([s.key for s in steps[:n]], measurements, weights), criterion.gain)
    return None


def regret(tried: Sequence[Key], measurements: Table, weights: dict[str, float]) -> float:
    """Shortfall of the best score among these points from the table's best, as a share of it, by the table's means."""
    score = {key: true_score(key, measurements, weights) for key in measurements.feasible}
    return 1 - max((score[k] for k in tried if k in score), default=0.0) / max(score.values())


def true_score(key: Key, measurements: Table, weights: dict[str, float]) -> float:
    """A point's score by the table's means; the baseline's is 1."""
    baseline, own = (
        Candidate(number, {}, as_estimates(measurements.truth[k]), feasible=True)
        for number, k in enumerate((key_of(BASELINE), key))
    )
    return SingleReadings(baseline, DIRECTIONS, weights).score(own).value


def best_points(steps: Sequence[Step], p99_max_s: float, weights: dict[str, float], n: int) -> list[dict[str, object]]:
    """The points that a later study would start from, as `search.warm_start` selects them."""
    recommendation = recommend(candidates(steps, p99_max_s), DIRECTIONS, weights)
    best = [c for c in recommendation.front if not c.baseline] if recommendation else []
    return [dict(best[i].params) for i in spread([c.estimates for c in best], DIRECTIONS, n)]
