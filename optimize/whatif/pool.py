"""All candidates of a study on one footing: those of the rounds, and those that only the search has read.

Between the search and the rounds the machine may have changed, and what the search read best was partly the luckiest.
Both show in the candidates that were measured in both: the readings of the others are multiplied by the mean ratio of
rounds to search of those. Quality, which is scored on the same prompts, is left as it is. Asked the study's own
question, only those of the rounds count, as in the study's own decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from objectives import Estimate
from objectives.intervals import log_half
from optimize.decision.block_design import Z
from optimize.decision.candidate import Candidate
from optimize.decision.constraints import violations
from optimize.decision.evidence import shares_of
from optimize.decision.recommendation import simple_forms
from optimize.decision.rounds import Figures, Rounds
from optimize.decision.stability import Noise
from optimize.decision.terms import Terms
from optimize.study.confirmation import confirmed, confirmed_under, terms_of
from optimize.study.info import info_of
from optimize.study.parsimony import reduced_trials
from optimize.study.trial_attributes import estimates_of
from optimize.study.trials import candidates
from optimize.whatif.figures import Figurer

if TYPE_CHECKING:
    import optuna

_MANY = 30.0
"""Degrees of freedom of variances that single measurements claim."""
_SAME = 1e-6
"""Share by which a figure may differ from the stored one for no other reason than rounding."""


@dataclass(frozen=True)
class Pool:
    """What a decision under other terms is made from.

    Attributes:
        candidates: All measured candidates that have a figure for every objective, the baseline among them.
        confirmed: Numbers of those that were measured in rounds.
        noise: How far measurements differ.
        evidence: The rounds; None without any.
        simple: Candidate's number -> that of its reduced form, which takes its place, as in the study's own decision.
    """

    candidates: Sequence[Candidate]
    confirmed: frozenset[int]
    noise: Noise
    evidence: Rounds | None
    simple: Mapping[int, int] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How many rounds there were; 0 for none."""
        return self.evidence.rounds if self.evidence else 0

    def of(self, number: int) -> Candidate:
        return next(c for c in self.candidates if c.number == number)


def pool_of(study: optuna.Study, terms: Terms, figurer: Figurer, rounds: int) -> Pool | None:
    """The candidates of a study under these terms; None where the baseline was not measured.

    Args:
        study: The study.
        terms: Objectives, weights and limits of the new question.
        figurer: Computes figures again.
        rounds: Rounds of a confirmation that would be measured afresh.
    """
    confirmation = confirmed_under(study, terms, lambda trial: figurer.of(trial.number, estimates_of(trial)))
    in_rounds = {} if confirmation is None else {c.number: c for c in confirmation[0]}
    metrics = [*terms.directions, *(limit.metric for limit in terms.limits)]
    own = _is_own(study, terms, in_rounds)
    eligible = [c for c in candidates(study) if c.number in in_rounds or not own]
    search = [replace(c, estimates=figurer.of(c.number, c.estimates)) for c in eligible]
    same = info_of(study).same_sample
    factors = _carried(list(in_rounds.values()), [name for name in metrics if name not in same])
    pool = [in_rounds.get(c.number) or _moved(c, factors) for c in search]
    pool = [c for c in pool if all(name in c.estimates for name in terms.directions)]
    baseline = next((c for c in pool if c.baseline), None)
    if baseline is None:
        return None
    judged = [replace(c, feasible=_keeps_all(c, terms, baseline.estimates)) for c in pool]
    evidence = None if confirmation is None else confirmation[1]
    simple = {} if evidence is None else simple_forms(judged, evidence, reduced_trials(study))
    return Pool(judged, frozenset(in_rounds), _noise(judged, metrics, same, evidence, rounds), evidence, simple)


def _is_own(study: optuna.Study, terms: Terms, in_rounds: Mapping[int, Candidate]) -> bool:
    """Whether a question is the study's own: the same terms, and in the rounds the same figures."""
    confirmation, own = confirmed(study), terms_of(study)
    if confirmation is None or terms.directions != own.directions or list(terms.limits) != list(own.limits):
        return False
    shares = shares_of(terms.weights, terms.directions)
    pairs = [(c.estimates[n].value, in_rounds[c.number].estimates[n].value) for c in confirmation[0] for n in shares]
    return shares == shares_of(own.weights, own.directions) and all(math.isclose(a, b, rel_tol=_SAME) for a, b in pairs)


def _keeps_all(candidate: Candidate, terms: Terms, baseline: Figures) -> bool:
    broken = violations(terms.limits, candidate.estimates, baseline, candidate.ratios)
    return all(excess <= 0 for excess in broken.values())


def _carried(both: Sequence[Candidate], names: Sequence[str]) -> dict[str, float]:
    """Metric -> mean ratio of rounds to search, of those measured in both."""
    factors = {}
    for name in names:
        pairs = [
            (c.estimates[name].value, c.first[name].value) for c in both if name in c.estimates and name in c.first
        ]
        if pairs and all(now > 0 and then > 0 for now, then in pairs):
            factors[name] = math.exp(fmean(math.log(now / then) for now, then in pairs))
    return factors


def _moved(candidate: Candidate, factors: Mapping[str, float]) -> Candidate:
    """A candidate of the search with its figures carried to the time of the rounds."""
    moved = {name: _times(candidate.estimates[name], f) for name, f in factors.items() if name in candidate.estimates}
    return replace(candidate, estimates={**candidate.estimates, **moved})


def _times(e: Estimate, factor: float) -> Estimate:
    return replace(e, value=e.value * factor, low=e.low * factor, high=e.high * factor)


def _noise(
    pool: Sequence[Candidate], metrics: Sequence[str], same: Sequence[str], evidence: Rounds | None, rounds: int
) -> Noise:
    """How far measurements differ: by the rounds where there are any, else by what single measurements claim."""
    if evidence is None:
        claims = {name: (0.0, _claimed(pool, name)) for name in metrics if name not in same}
        positive = {name: c for name, c in claims.items() if c[1] > 0}
        return Noise(positive, {c.number: 1 for c in pool}, rounds, (_MANY, _MANY))
    components = {name: part for name in metrics if (part := evidence.components(name)) is not None}
    numbers = evidence.numbers
    readings = {c.number: evidence.rounds if c.number in numbers else 1 for c in pool}
    times = evidence.rounds  # with that of the search, less one
    return Noise(components, readings, rounds, (float(times), float(max(len(numbers) - 1, 1) * (times - 1))))


def _claimed(pool: Sequence[Candidate], name: str) -> float:
    """Variance of a logarithm that a usual measurement claims by itself; 0 of a figure that is not positive."""
    figures = [c.estimates[name] for c in pool if name in c.estimates]
    if not figures or any(e.value <= 0 for e in figures):
        return 0.0
    return median((log_half(e) / Z) ** 2 for e in figures)
