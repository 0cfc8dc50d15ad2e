"""From measured candidates and a scenario to a pick and its runner-up. Pure.

The score of a candidate is the weighted geometric mean of its gains over the baseline,

    score = prod_i gain_i ** (w_i / sum_j w_j),

with gain_i the ratio to the baseline in the direction that improves objective i. It needs no normalization over the
front, rises with every objective, and reads as "this many times better than vLLM's defaults, all told".
Weighted product model: Bridgman, "Dimensional Analysis", 1922; Triantaphyllou, "Multi-Criteria Decision Making", 2000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives import Direction, Estimate
from objectives.base import gain
from optimize.pareto import front


@dataclass(frozen=True)
class Candidate:
    """One measured configuration.

    Attributes:
        number: Trial number.
        params: Knob -> value.
        estimates: Metric -> figure.
        feasible: Whether it runs and keeps every bound.
        baseline: Whether it is the baseline.
    """

    number: int
    params: Mapping[str, Any]
    estimates: Mapping[str, Estimate]
    feasible: bool
    baseline: bool = False


@dataclass(frozen=True)
class Recommendation:
    """The configuration to deploy.

    Attributes:
        pick: The best candidate.
        score: Its score; 1 is the baseline.
        gains: Objective -> gain over the baseline with its interval.
        runner_up: The next best, if there is one.
        runner_up_score: Its score.
        front: All non-dominated feasible candidates.
        decisive: Whether the score's interval keeps the pick apart from the baseline.
        tied: Whether pick and runner-up cannot be told apart on this evidence.
    """

    pick: Candidate
    score: Estimate
    gains: Mapping[str, Estimate]
    runner_up: Candidate | None
    runner_up_score: Estimate | None
    front: Sequence[Candidate]

    @property
    def decisive(self) -> bool:
        return self.score.low > 1.0

    @property
    def tied(self) -> bool:
        return self.runner_up_score is not None and self.runner_up_score.high > self.score.low


def recommend(
    candidates: Sequence[Candidate], directions: Mapping[str, Direction], weights: Mapping[str, float]
) -> Recommendation | None:
    """Pick from the feasible front by score.

    Args:
        candidates: All completed trials, the baseline among them.
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.

    Returns:
        None where there is no baseline or nothing feasible.
    """
    baseline = next((c for c in candidates if c.baseline), None)
    feasible = [c for c in candidates if c.feasible]
    if baseline is None or not feasible:
        return None
    best = [feasible[i] for i in front([c.estimates for c in feasible], directions)]
    ranked = sorted(best, key=lambda c: -score(c, baseline, directions, weights).value)
    pick, rest = ranked[0], ranked[1:]
    return Recommendation(
        pick=pick,
        score=score(pick, baseline, directions, weights),
        gains={name: gain_estimate(d, pick, baseline, name) for name, d in directions.items()},
        runner_up=rest[0] if rest else None,
        runner_up_score=score(rest[0], baseline, directions, weights) if rest else None,
        front=ranked,
    )


def score(
    candidate: Candidate,
    baseline: Candidate,
    directions: Mapping[str, Direction],
    weights: Mapping[str, float],
) -> Estimate:
    """Weighted geometric mean of the gains, its interval from theirs.

    Half-widths of independent logarithms add in squares (delta method).
    """
    used = {name: w for name, w in weights.items() if w > 0 and name in directions}
    total = sum(used.values())
    middle, below, above = 0.0, 0.0, 0.0
    for name, weight in used.items():
        got, share = gain_estimate(directions[name], candidate, baseline, name), weight / total
        if not got.value > 0:
            return Estimate(0.0, 0.0, 0.0, 0, "x")
        middle += share * math.log(got.value)
        below += (share * math.log(got.value / max(got.low, 1e-9))) ** 2
        above += (share * math.log(got.high / got.value)) ** 2
    low, high = middle - math.sqrt(below), middle + math.sqrt(above)
    return Estimate(math.exp(middle), math.exp(low), math.exp(high), len(used), "x")


def gain_estimate(direction: Direction, candidate: Candidate, baseline: Candidate, name: str) -> Estimate:
    """Gain over the baseline with its interval: logarithms of independent figures, half-widths added in squares."""
    ours, theirs = candidate.estimates[name], baseline.estimates[name]
    value = gain(direction, ours.value, theirs.value)
    if candidate.number == baseline.number:
        return Estimate(1.0, 1.0, 1.0, ours.n, "x")
    if math.isnan(value):
        return Estimate(0.0, 0.0, 0.0, 0, "x")
    half = math.hypot(_log_half(ours), _log_half(theirs))
    return Estimate(value, value * math.exp(-half), value * math.exp(half), min(ours.n, theirs.n), "x")


def _log_half(estimate: Estimate) -> float:
    """Half-width of a figure's interval in logarithms; the wider side where it is lopsided."""
    up = math.log(max(estimate.high, estimate.value) / estimate.value)
    down = math.log(estimate.value / max(min(estimate.low, estimate.value), 1e-3 * estimate.value))
    return max(up, down)
