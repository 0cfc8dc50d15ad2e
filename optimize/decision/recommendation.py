"""From measured candidates and a scenario to a pick and its runner-up. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from objectives import Direction, Estimate
from optimize.decision.candidate import Candidate
from optimize.decision.evidence import Evidence, SingleReadings
from optimize.decision.rounds import AnswerPairs, Rounds
from optimize.pareto import front

__all__ = [
    "AnswerPairs",
    "Candidate",
    "Evidence",
    "Recommendation",
    "Rounds",
    "SingleReadings",
    "recommend",
    "simple_forms",
]


@dataclass(frozen=True)
class Recommendation:
    """The configuration to deploy.

    Attributes:
        pick: The best candidate.
        score: Its score; 1 is the baseline.
        gains: Objective -> gain over the baseline with its interval.
        runner_up: The next best, if there is one.
        tied: Whether pick and runner-up cannot be told apart on this evidence.
        front: All non-dominated feasible candidates, best score first.
        considered: All candidates, feasible or not.
        scores: Number -> score of each of them.
        rounds: How many rounds of measurements it rests on; 0 where it rests on the search's single readings.
        simple: Candidate's number -> that of the form which takes its place; see `simple_forms`.
    """

    pick: Candidate
    score: Estimate
    gains: Mapping[str, Estimate]
    runner_up: Candidate | None
    tied: bool
    front: Sequence[Candidate]
    considered: Sequence[Candidate]
    scores: Mapping[int, Estimate]
    rounds: int = 0
    simple: Mapping[int, int] = field(default_factory=dict)

    @property
    def decisive(self) -> bool:
        """Whether the score's interval keeps the pick apart from the baseline."""
        return self.score.low > 1.0


def recommend(
    candidates: Sequence[Candidate],
    directions: Mapping[str, Direction],
    weights: Mapping[str, float],
    evidence: Rounds | None = None,
    simple: Mapping[int, int] | None = None,
) -> Recommendation | None:
    """Pick from the feasible front by score.

    Args:
        candidates: All measured candidates, the baseline among them.
        directions: Objective -> direction.
        weights: Objective -> weight; objectives without one do not count in the score.
        evidence: Rounds that all candidates were measured in; without, their single readings are compared.
        simple: Candidate's number -> that of the form which takes its place if it is feasible; see `simple_forms`.

    Returns:
        None where there is no baseline or nothing feasible.
    """
    baseline = next((c for c in candidates if c.baseline), None)
    feasible = [c for c in candidates if c.feasible]
    if baseline is None or not feasible:
        return None
    comparison: Evidence = evidence or SingleReadings(baseline, directions, weights)
    scores = {c.number: comparison.score(c) for c in candidates}
    best = [feasible[i] for i in front([c.estimates for c in feasible], directions)]
    first, *others = sorted(best, key=lambda c: -scores[c.number].value)
    simple = simple or {}
    pick = next((c for c in feasible if c.number == simple.get(first.number)), first)
    rest = [c for c in (first, *others) if c is not pick]
    runner_up = rest[0] if rest else None
    return Recommendation(
        pick=pick,
        score=scores[pick.number],
        gains={name: comparison.gain(pick, name) for name in directions},
        runner_up=runner_up,
        tied=runner_up is not None and comparison.tied(pick, runner_up),
        front=[pick, *rest],
        considered=candidates,
        scores=scores,
        rounds=evidence.rounds if evidence else 0,
        simple=simple,
    )


def simple_forms(candidates: Sequence[Candidate], rounds: Rounds, reduced: Mapping[int, int]) -> dict[int, int]:
    """Candidate's number -> that of its reduced form, where the rounds do not show that the candidate is better.

    Args:
        candidates: The candidates.
        rounds: The rounds that some of them were measured in; of the others nothing is said.
        reduced: Candidate's number -> that of its form with vLLM's default in every knob whose change the search has
            not shown to help.
    """
    measured = {c.number: c for c in candidates if c.number in rounds.numbers}
    pairs = [(n, form) for n, form in reduced.items() if n in measured and form in measured]
    return {n: form for n, form in pairs if rounds.tied(measured[n], measured[form])}
