"""When a search ends: trials, minutes, an exhausted grid, or nothing left to gain that could be shown."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from optimize.config.schema import NOISE
from optimize.plan import Plan
from optimize.search.stopping import LEAST_TRIALS, stopping_criterion
from optimize.study.confirmation import first_reading
from optimize.study.trials import told

if TYPE_CHECKING:
    import optuna


class Budget:
    """Of one session.

    Args:
        plan: The study's parts.
        study: The study.
        deadline: `time.monotonic()` after which no further trial is asked for; None for no limit.
    """

    def __init__(self, plan: Plan, study: optuna.Study, deadline: float | None) -> None:
        self._plan, self._study, self._deadline = plan, study, deadline

    def spent(self, running: int = 0) -> str | None:
        """Why the search ends, in words; None while it goes on.

        Args:
            running: Trials that are under way, and may still come to count.
        """
        done = len(told(self._study))
        if done + running >= self._plan.config.study.trials + 1:
            return "all trials are done"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the minutes are over"
        exhausted = getattr(self._study.sampler, "is_exhausted", None)
        if exhausted is not None and exhausted(self._study):  # a grid ends before the budget may
            return "the grid is done"
        if self._plan.config.search.until == NOISE and done >= LEAST_TRIALS:
            return self._nothing_to_show()
        return None

    def _nothing_to_show(self) -> str | None:
        found = first_reading(self._study)
        if found is None:
            return None
        scores = {c.number: found.scores[c.number] for c in found.considered if c.feasible}
        trials, confirm = told(self._study), self._plan.config.confirm
        criterion = stopping_criterion(
            self._plan.space.distributions,
            [t.params for t in trials],
            [scores.get(t.number) for t in trials],
            confirm.rounds if confirm.candidates else 1,
        )
        if not criterion.met:
            return None
        gain, error = math.expm1(criterion.gain), math.expm1(criterion.standard_error)
        return (
            f"more trials are expected to gain {gain:.1%} of the score, below the standard error of a confirmed gain "
            f"({error:.1%}; search.until=noise)"
        )
