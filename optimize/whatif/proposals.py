"""What to measure next, and how often, so that a decision under other terms is sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optimize.config.schema import LEAST_ROUNDS
from optimize.decision.block_design import Z
from optimize.decision.candidate import Candidate
from optimize.decision.constraints import Limit
from optimize.decision.evidence import shares_of
from optimize.decision.stability import Stability
from optimize.decision.standings import Standings
from optimize.decision.terms import Terms
from optimize.whatif.pool import Pool

_RIVAL = 0.05
"""Probability of being picked from which a candidate is worth measuring."""
LARGEST = 20
"""Measurements beyond which two candidates are as good as equal."""


@dataclass(frozen=True)
class Proposal:
    """A candidate to measure next.

    Attributes:
        candidate: The candidate.
        probability: Probability that it is the pick.
        confirmed: Whether it was measured in rounds.
        repeats: Measurements of it, and of the pick, that would tell the two apart; None where twenty would not.
    """

    candidate: Candidate
    probability: float
    confirmed: bool
    repeats: int | None


def proposals(pool: Pool, terms: Terms, drawn: Stability) -> list[Proposal]:
    """Every candidate that may well be the pick, the likeliest first.

    Args:
        pool: All candidates.
        terms: Objectives, weights and limits.
        drawn: How often each of them would be picked.
    """
    likely = sorted(drawn.picks.items(), key=lambda item: -item[1])
    numbers = [n for n, probability in likely if probability >= _RIVAL] or [n for n, _ in likely[:1]]
    needs = _Needs(pool, terms, drawn)
    return [Proposal(pool.of(n), drawn.picks[n], n in pool.confirmed, needs.repeats(n, numbers[0])) for n in numbers]


@dataclass(frozen=True)
class _Needs:
    """How many measurements tell candidates apart."""

    pool: Pool
    terms: Terms
    drawn: Stability

    def repeats(self, number: int, leader: int) -> int | None:
        """Measurements of a candidate, and of the leader, after which they differ; None where too many."""
        counts = [self._for_limit(number, limit) for limit in self._open(number)]
        if number != leader:
            counts.append(self._for_score(number, leader))
        most = max(counts, default=0)
        return None if most > LARGEST else max(most, LEAST_ROUNDS + 1)

    def _open(self, number: int) -> Sequence[Limit]:
        """Limits that the candidate may keep or break."""
        keeps = self.drawn.keeps[number]
        return [limit for limit in self.terms.limits if _RIVAL < keeps[limit.name] < 1 - _RIVAL]

    def _for_score(self, one: int, other: int) -> int:
        scores, parts = self._standings.scores({})[0], self.pool.noise.components
        shares = shares_of(self.terms.weights, self.terms.directions)
        variance = 2 * sum(share**2 * parts[n][1] for n, share in shares.items() if n in parts)
        return _count(variance, float(scores[self._row(one)] - scores[self._row(other)]))

    def _for_limit(self, number: int, limit: Limit) -> int:
        figure = float(self._standings.figures(limit, {})[0][self._row(number)])
        parts = self.pool.noise.components.get(limit.metric, (0.0, 0.0))
        return _count(sum(parts), math.log(figure / limit.value)) if figure > 0 and limit.value > 0 else 0

    @property
    def _standings(self) -> Standings:
        return Standings(self.pool.candidates, self.terms)

    def _row(self, number: int) -> int:
        return next(row for row, c in enumerate(self.pool.candidates) if c.number == number)


def _count(variance: float, distance: float) -> int:
    """Measurements whose mean has half of its 95 % interval within a distance; at most one more than `LARGEST`."""
    if distance == 0:
        return LARGEST + 1
    return math.ceil(min(Z**2 * variance / distance**2, LARGEST + 1))
