"""When a search ends: trials, minutes, an exhausted grid, or nothing left to gain that could be shown."""

from __future__ import annotations

import math
import time

from optimize.config.schema import NOISE
from optimize.driver.session import Session
from optimize.search.history import is_measured
from optimize.search.stopping import LEAST_TRIALS, ScoredTrial, stopping_criterion
from optimize.study.confirmation import first_reading
from optimize.study.trials import budget_trials


class Budget:
    """Budget of one session."""

    def __init__(self, session: Session) -> None:
        self._plan, self._study, self._deadline = session.plan, session.study, session.deadline

    def spent(self, running: int = 0) -> str | None:
        """The reason why the search ends, for people; None while it goes on.

        Args:
            running: Number of trials under way, which may still use up budget.
        """
        done = len(budget_trials(self._study))
        if done + running >= self._plan.config.study.trials + 1:
            return "all trials are done"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the minutes are over"
        exhausted = getattr(self._study.sampler, "is_exhausted", None)
        if exhausted is not None and exhausted(self._study):  # a grid ends before the budget may
            return "the grid is done"
        if self._plan.config.search.until == NOISE and done >= LEAST_TRIALS:
            return self._gain_within_noise()
        return None

    def is_last(self, running: int) -> bool:
        """Whether the next trial is the last one, with this number of trials under way."""
        return len(budget_trials(self._study)) + running == self._plan.config.study.trials

    def _gain_within_noise(self) -> str | None:
        recommendation = first_reading(self._study)
        if recommendation is None:
            return None
        scores = {c.number: recommendation.scores[c.number] for c in recommendation.considered if c.feasible}
        trials = [
            ScoredTrial(t.params, scores.get(t.number), t.constraints, is_measured(t))
            for t in budget_trials(self._study)
        ]
        space, confirm, users = self._plan.space, self._plan.config.confirm, self._plan.users
        criterion = stopping_criterion(
            space.distributions, trials, confirm.rounds if confirm.candidates else 1, space.canonical,
            space.saturation(users) if users is not None else {},
        )  # fmt: skip
        if not criterion.met:
            return None
        return (
            f"the chance that something is left to try which is better by more than a confirmation can tell "
            f"({math.expm1(criterion.standard_error):.1%}) is {criterion.chance:.0%} (search.until=noise)"
        )
