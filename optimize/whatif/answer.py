"""The answer to a question of other terms: the pick, how sure it is, where it flips, and what to measure next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from optimize.decision.constraints import Limit
from optimize.decision.evidence import shares_of
from optimize.decision.flips import Step, over_limit, over_weight
from optimize.decision.recommendation import Recommendation, recommend
from optimize.decision.stability import Stability, stability
from optimize.decision.standings import Standings
from optimize.decision.terms import Terms
from optimize.whatif.pool import Pool
from optimize.whatif.proposals import Proposal, proposals


@dataclass(frozen=True)
class Flip:
    """How the pick depends on one setting.

    Attributes:
        setting: The setting as it is written on the command line, e.g. "constraints.p99_latency_s.max".
        value: Its value in the question.
        steps: The picks over all its values.
        limit: The limit that it sets; None for a weight.
    """

    setting: str
    value: float
    steps: Sequence[Step]
    limit: Limit | None = None

    @property
    def flips(self) -> bool:
        return len(self.steps) > 1


@dataclass(frozen=True)
class Answer:
    """What a study would decide under other terms.

    Attributes:
        terms: These terms.
        pool: What it is decided from.
        recommendation: The decision; None where nothing keeps every limit.
        stability: How sure it is.
        flips: How the pick depends on each limit and each weight.
        proposals: What to measure next to be sure; empty where it is sure enough.
    """

    terms: Terms
    pool: Pool
    recommendation: Recommendation | None
    stability: Stability
    flips: Sequence[Flip]
    proposals: Sequence[Proposal]

    @property
    def probability(self) -> float:
        """Probability that a study measured afresh decides the same."""
        if self.recommendation is None:
            return self.stability.none
        return self.stability.picks.get(self.recommendation.pick.number, 0.0)

    def to_dict(self) -> dict[str, Any]:
        best = self.recommendation
        return {
            "pick": None if best is None else {"trial": best.pick.number, "params": dict(best.pick.params),
                                               "confirmed": best.pick.number in self.pool.confirmed},
            "probability": self.probability,
            "probabilities": {str(n): p for n, p in self.stability.picks.items()},
            "nothing_keeps_every_limit": self.stability.none,
            "estimates": {} if best is None else {n: e.to_dict() for n, e in best.pick.estimates.items()},
            "score": None if best is None else best.score.to_dict(),
            "flips": [
                {"setting": f.setting, "value": f.value, "steps": [_step(s) for s in f.steps]} for f in self.flips
            ],
            "measure": [
                {"trial": p.candidate.number, "probability": p.probability, "repeats": p.repeats}
                for p in self.proposals
            ],
        }  # fmt: skip


def _step(step: Step) -> dict[str, Any]:
    return {"from": step.low, "to": None if math.isinf(step.high) else step.high, "trial": step.pick}


def answer(pool: Pool, terms: Terms, sure: float) -> Answer:
    """Decide.

    Args:
        pool: All candidates with the figures that decide.
        terms: Objectives, weights and limits.
        sure: Probability of the pick from which nothing is proposed.
    """
    standings = Standings(pool.candidates, terms, pool.simple)
    drawn = stability(standings, pool.noise)
    best = recommend(pool.candidates, terms.directions, terms.weights, simple=pool.simple)
    result = Answer(terms, pool, _with_rounds(best, pool, terms), drawn, _flips(standings), [])
    return result if result.probability >= sure else replace(result, proposals=proposals(pool, terms, drawn))


def _with_rounds(best: Recommendation | None, pool: Pool, terms: Terms) -> Recommendation | None:
    """The decision with gains from within the rounds, where its pick was measured in them."""
    if best is None or pool.evidence is None or best.pick.number not in pool.confirmed:
        return best
    gains = {name: pool.evidence.gain(best.pick, name) for name in terms.directions}
    return replace(best, gains=gains, score=pool.evidence.score(best.pick), rounds=pool.rounds)


def _flips(standings: Standings) -> list[Flip]:
    terms = standings.terms
    limits = [Flip(setting_of(x), x.value, over_limit(standings, x), x) for x in terms.limits]
    weights = [
        Flip(f"scenario.weights.{name}", weight, over_weight(standings, name))
        for name, weight in terms.weights.items()
        if name in terms.directions and len(terms.directions) > 1
    ]
    return [*limits, *weights]


def setting_of(limit: Limit) -> str:
    """The key that sets a limit."""
    field = f"{'max' if limit.upper else 'min'}{'_ratio' if limit.relative else ''}"
    return f"constraints.{limit.metric}.{field}"


def changes(before: Terms, after: Terms) -> list[str]:
    """What differs between two questions, as sentences."""
    old, new = ({setting_of(x): f"{x.value:g}" for x in terms.limits} for terms in (before, after))
    lines = [
        f"{setting} is {new.get(setting, 'not set')}, in the study {old.get(setting, 'not set')}"
        for setting in {**old, **new} if old.get(setting) != new.get(setting)
    ]  # fmt: skip
    shares = [shares_of(x.weights, x.directions) for x in (before, after)]
    for name in dict.fromkeys([*shares[0], *shares[1]]):
        then, now = (share.get(name, 0.0) for share in shares)
        if not math.isclose(then, now, abs_tol=1e-9):
            lines.append(f"{name} weighs {100 * now:.0f} % of the score, in the study {100 * then:.0f} %")
    return lines
