"""What a study knows before a trial is over: enough to see, sometimes, that it can come to nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from objectives import Direction, Estimate
from optimize.decision.constraints import Limit
from optimize.decision.recommendation import Candidate


@dataclass(frozen=True)
class Futility:
    """Of one trial.

    Attributes:
        limits: The study's constraints.
        directions: Objective -> direction.
        rivals: Feasible trials measured so far.
        baseline: The baseline's figures.
        known: Metric -> figure that is known of this configuration beforehand.
        ratios: Metric -> ratio to the baseline's on the answers of both, where that is known beforehand.
    """

    limits: Sequence[Limit]
    directions: Mapping[str, Direction]
    rivals: Sequence[Candidate]
    baseline: Mapping[str, Estimate]
    known: Mapping[str, Estimate] = field(default_factory=dict)
    ratios: Mapping[str, Estimate] = field(default_factory=dict)

    def hopeless(self, found: Mapping[str, Estimate]) -> str | None:
        """Why a trial can come to nothing, even at the best ends of its intervals; None while it may.

        Args:
            found: Metric -> figure so far; those that `known` has count no matter what is found.
        """
        figures = {**found, **self.known}
        for limit in self.limits:
            figure, reference = self._compared(limit, figures)
            if figure is not None:
                best = figure.low if limit.upper else figure.high
                if limit.violation(best, reference) > 0:
                    return f"{limit.name} is out of reach"
        for rival in self.rivals:
            if self._beaten(figures, rival):
                return f"trial {rival.number} is better in every objective"
        return None

    def _compared(self, limit: Limit, figures: Mapping[str, Estimate]) -> tuple[Estimate | None, float | None]:
        """What a limit looks at, and what it is relative to: of answers, only those that the baseline gave too."""
        if limit.relative and limit.metric in self.ratios:
            return self.ratios[limit.metric], 1.0
        reference = self.baseline.get(limit.metric)
        return figures.get(limit.metric), reference.value if reference else None

    def _beaten(self, figures: Mapping[str, Estimate], rival: Candidate) -> bool:
        """Whether a rival at its worst is as good as this at its best in every objective, and better in one."""
        better = False
        for name, direction in self.directions.items():
            ours, theirs = figures.get(name), rival.estimates[name]
            if ours is None:
                return False
            if ours == theirs:
                continue  # quality, where both were given the same answers
            best, worst = (ours.high, theirs.low) if direction is Direction.MAXIMIZE else (-ours.low, -theirs.high)
            if worst < best:
                return False
            better |= worst > best
        return better
