"""The rounds so far, and what each look at them has decided. Pure.

The release fails as soon as one objective does, so each objective's FAIL has its share of the error (Bonferroni). It
passes only if all of them do, for which each may use the whole error (the intersection-union test: Berger,
"Multiparameter hypothesis testing and acceptance sampling", 1982).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from objectives import Direction, Estimate
from optimize.guard.change import Change, Verdict, in_rounds, since_stored
from optimize.guard.sequential import level

ERROR = 0.05
"""Probability of a wrong FAIL, and of a wrong PASS, of the whole release over all looks."""
Figures = Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of one objective.

    Attributes:
        objective: Its name.
        verdict: The verdict.
        margin: Share by which the other side may be worse.
        rounds: Rounds that it rests on.
        ratio: The other side's figure over the row's, with its interval over all looks; None where there is none.
        worst: How much worse, as a share, the other side is at most; it passes where that is less than the margin.
        smallest: How much worse, as a share, the other side must be for this to see it with a chance of 80 %.
        reason: Why there is no ratio; else empty.
    """

    objective: str
    verdict: Verdict
    margin: float
    rounds: int
    ratio: Estimate | None = None
    worst: float | None = None
    smallest: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "objective": self.objective, "verdict": str(self.verdict), "margin": self.margin, "rounds": self.rounds,
            "ratio": None if self.ratio is None else self.ratio.to_dict(),
            "worse_by_at_most": self.worst, "smallest_change_seen": self.smallest, "reason": self.reason,
        }  # fmt: skip


@dataclass
class Comparison:
    """Collects rounds and judges them.

    Attributes:
        directions: Objective -> which way it improves.
        margins: Objective -> margin.
        stored: The row's stored figures; None where it is measured, too.
        shares: Share of the error that each look so far might have spent.
        rows: Figures of the row in each round; none where they are stored.
        others: Figures of the other side in each round.
        judgements: Objective -> the last judgement; one that has passed or failed stands.
    """

    directions: Mapping[str, Direction]
    margins: Mapping[str, float]
    stored: Figures | None = None
    shares: list[float] = field(default_factory=list)
    rows: list[Figures] = field(default_factory=list)
    others: list[Figures] = field(default_factory=list)
    judgements: dict[str, Judgement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.directions:
            self.judgements[name] = self._undecided(name, "not measured")

    @property
    def rounds(self) -> int:
        """How many there are."""
        return len(self.others)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the release."""
        verdicts = {judgement.verdict for judgement in self.judgements.values()}
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.PASS

    def look(self, answers: Mapping[str, Change], share: float) -> None:
        """Judge what is undecided by the rounds so far; there must be LEAST_ROUNDS, and one look for each further one.

        Args:
            answers: Objective that scores answers -> its change, by all answers so far.
            share: Share of the error that may be spent by now: of the time that has passed.
        """
        self.shares.append(share)
        errors = (ERROR, ERROR / len(self.directions))
        pass_level, fail_level = (level(tuple(self.shares), error) for error in errors)
        for name, last in self.judgements.items():
            if last.verdict is not Verdict.INCONCLUSIVE:
                continue
            change, reason = (answers[name], "") if name in answers else self._change(name)
            margin = self.margins[name]
            if change is None:
                self.judgements[name] = self._undecided(name, reason)
                continue
            self.judgements[name] = Judgement(
                name, change.verdict(margin, pass_level, fail_level), margin, self.rounds,
                change.interval(pass_level, fail_level, self.rounds), change.worst(pass_level),
                change.smallest(margin, fail_level),
            )  # fmt: skip

    def _undecided(self, name: str, reason: str) -> Judgement:
        return Judgement(name, Verdict.INCONCLUSIVE, self.margins[name], self.rounds, reason=reason)

    def _change(self, name: str) -> tuple[Change | None, str]:
        """The change of a figure, and why there is none."""
        if not all(name in figures for figures in self.others):
            return None, "the other side has no such figure"
        values = [figures[name].value for figures in self.others]
        if self.stored is not None:
            return self._since(name, values)
        if not all(name in figures for figures in self.rows):
            return None, "the row has no such figure"
        change = in_rounds(values, _values(self.rows, name), self.directions[name])
        return change, "" if change else "the row's figures are zero"

    def _since(self, name: str, values: Sequence[float]) -> tuple[Change | None, str]:
        stored = (self.stored or {}).get(name)
        if stored is None:
            return None, "the study has stored no such figure"
        change = since_stored(values, stored, self.directions[name])
        return change, "" if change else "a figure is zero"


def _values(rounds: Sequence[Figures], name: str) -> list[float]:
    return [figures[name].value for figures in rounds]
