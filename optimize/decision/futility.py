"""Stopping a search for a capacity for futility: can the trial still be feasible and not dominated? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from objectives import Direction, Estimate
from optimize.decision.constraints import Limit
from optimize.decision.recommendation import Candidate


@dataclass(frozen=True)
class Futility:
    """What the figures of one trial are held against.

    Attributes:
        limits: The study's constraints.
        directions: Objective -> direction.
        rivals: Feasible trials measured so far.
        baseline: The baseline's figures.
        prior: Metric -> figure of this configuration from earlier trials.
        ratios: Metric -> ratio to the baseline's on the answers of both, from earlier trials.
    """

    limits: Sequence[Limit]
    directions: Mapping[str, Direction]
    rivals: Sequence[Candidate]
    baseline: Mapping[str, Estimate]
    prior: Mapping[str, Estimate] = field(default_factory=dict)
    ratios: Mapping[str, Estimate] = field(default_factory=dict)

    def hopeless(self, estimates: Mapping[str, Estimate]) -> str | None:
        """Why a trial is futile even at the best ends of its intervals; None while it is not.

        Args:
            estimates: Metric -> figure so far; those in `prior` take precedence.
        """
        figures = {**estimates, **self.prior}
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
        """A limit's figure and its reference; quality counts on the answers that the baseline gave too."""
        if limit.relative and limit.metric in self.ratios:
            return self.ratios[limit.metric], 1.0
        reference = self.baseline.get(limit.metric)
        return figures.get(limit.metric), reference.value if reference else None

    def _beaten(self, figures: Mapping[str, Estimate], rival: Candidate) -> bool:
        """Whether a rival at its worst is as good as this at its best in every objective, and better in one."""
        better = False
        for name, direction in self.directions.items():
            figure, reference = figures.get(name), rival.estimates[name]
            if figure is None:
                return False
            if figure == reference:
                continue  # quality of the same answers
            best, worst = (
                (figure.high, reference.low) if direction is Direction.MAXIMIZE else (-figure.low, -reference.high)
            )
            if worst < best:
                return False
            better |= worst > best
        return better
