"""What a replayed study was worth, judged by the whole table."""

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


def shares(steps: Sequence[Step], known: Table) -> list[float]:
    """After each trial: the hypervolume found, as a share of the table's."""
    return [known.hypervolume(s.key for s in steps[: n + 1]) / known.best for n in range(len(steps))]


def trials_to(share: float, found: Sequence[float]) -> int | None:
    """How many trials it took to a share of the hypervolume; None where it was not reached."""
    return next((n for n, reached in enumerate(found, start=1) if reached >= share), None)


def repeated_failures(steps: Sequence[Step]) -> int:
    """Trials of points that had given no measurement before, and gave none again."""
    failed, again = set[Key](), 0
    for step in steps:
        if not is_measured(step.row):
            again += step.key in failed
            failed.add(step.key)
    return again


@dataclass
class Cut:
    """Of trials that were measured: what cutting them short would have done.

    Attributes:
        trials: How many there were, the baseline left out.
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


def cut_short(steps: Sequence[Step], known: Table, p99_max_s: float) -> Cut:
    """What looks at 2 and 3 seconds would have done to a study's trials."""
    found, best = Cut(), true_front(known)
    for n, step in enumerate(steps):
        if not n or not is_measured(step.row):
            continue
        found.trials += 1
        found.window_s += step.row["seconds.window"]
        before = candidates(steps[:n], p99_max_s)
        rivals = [c for c in before if c.feasible]
        alike = [c for c in before if answers_key(key_of(c.params)) == answers_key(step.key)]
        futility = Futility(
            limits(p99_max_s), DIRECTIONS, rivals, before[0].estimates,
            {"bleu": alike[-1].estimates["bleu"]} if alike else {},
        )  # fmt: skip
        at_s = next((s for s in LOOKS_S if (seen := look(step.row, s)) and futility.hopeless(seen)), None)
        if at_s is None or at_s >= step.row["seconds.window"]:
            continue
        found.cut += 1
        found.saved_s += step.row["seconds.window"] - at_s
        whole = candidates(steps[: n + 1], p99_max_s)[-1]
        found.wrong += whole.feasible and _is_on_front(whole, rivals)
        found.lost += step.key in best
    return found


def look(row: Row, look_s: float) -> dict[str, Estimate]:
    """What was to be seen of a trial so many seconds into its window; memory is known by then."""
    ends = {name: (row[f"at {look_s:g} s.{name}.low"], row[f"at {look_s:g} s.{name}.high"]) for name in LOOKED_AT}
    found = {
        name: Estimate((low + high) / 2, low, high, 1, "") for name, (low, high) in ends.items() if low is not None
    }
    names = ("value", "low", "high")
    memory = dict(zip(names, (row["memory_bytes"], row["memory_bytes.low"], row["memory_bytes.high"]), strict=True))
    return {**found, "memory_bytes": Estimate(**memory, n=1, unit="bytes")} if found else {}


def true_front(known: Table) -> set[Key]:
    """The feasible points that no other beats, by the table's means."""
    keys = sorted(known.feasible, key=str)
    return {keys[i] for i in front([as_estimates(known.truth[k]) for k in keys], DIRECTIONS)}


def _is_on_front(candidate: Candidate, rivals: Sequence[Candidate]) -> bool:
    return len(rivals) in front([c.estimates for c in (*rivals, candidate)], DIRECTIONS)


@dataclass(frozen=True)
class Stop:
    """Where `search.until=noise` would have ended a study.

    Attributes:
        trials: After how many.
        regret: By what share the best score among the trials so far falls short of the table's best.
        gain: What it expected of going on.
    """

    trials: int
    regret: float
    gain: float


def stop(
    steps: Sequence[Step], known: Table, p99_max_s: float, weights: dict[str, float], since: int = LEAST_TRIALS
) -> Stop | None:
    """After how many trials, at least so many; None where it would have gone on to the end."""
    for n in range(since, len(steps) + 1):
        found = recommend(candidates(steps[:n], p99_max_s), DIRECTIONS, weights)
        if found is None:
            continue
        scores = {c.number: found.scores[c.number] for c in found.considered if c.feasible}
        params = [params_of(dict(zip(GRID, s.key, strict=True))) for s in steps[:n]]
        criterion = stopping_criterion(SPACE, params, [scores.get(i) for i in range(n)], ROUNDS)
        if criterion.met:
            return Stop(n, regret([s.key for s in steps[:n]], known, weights), criterion.gain)
    return None


def regret(tried: Sequence[Key], known: Table, weights: dict[str, float]) -> float:
    """By what share the best score among these points falls short of the best in the table, by its means."""
    score = {key: true_score(key, known, weights) for key in known.feasible}
    return 1 - max((score[k] for k in tried if k in score), default=0.0) / max(score.values())


def true_score(key: Key, known: Table, weights: dict[str, float]) -> float:
    """A point's score by the table's means; the baseline's is 1."""
    baseline, own = (
        Candidate(number, {}, as_estimates(known.truth[k]), feasible=True)
        for number, k in enumerate((key_of(BASELINE), key))
    )
    return SingleReadings(baseline, DIRECTIONS, weights).score(own).value


def best_points(steps: Sequence[Step], p99_max_s: float, weights: dict[str, float], n: int) -> list[dict[str, object]]:
    """What a later study would start from, as `search.warm_start` chooses it."""
    found = recommend(candidates(steps, p99_max_s), DIRECTIONS, weights)
    best = [c for c in found.front if not c.baseline] if found else []
    return [dict(best[i].params) for i in spread([c.estimates for c in best], DIRECTIONS, n)]
