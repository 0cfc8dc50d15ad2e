"""A grid measured to its end, over any number of sessions, with the fewest starts of engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import GridSampler
from optuna.trial import FrozenTrial, TrialState

from optimize.outcome import ROLE, Role
from optimize.search.designs import grid_values
from optimize.search.gp_sampler import LiveEngine


class ExhaustiveSampler(GridSampler):
    """A grid for the ask/tell loop: every point once, over any number of sessions.

    Optuna's own counts points by their place in a seeded order, which a resumed study draws anew; here a point is known
    by its values. All of the grid will be measured, so what the live engine can serve comes first: that makes for the
    fewest starts. The loop looks at `is_exhausted` instead of being stopped from within.

    Attributes:
        live: The live engine; None where nothing runs or reuse is switched off.
    """

    live: LiveEngine | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if "fixed_params" in trial.system_attrs:
            return
        unvisited = self._get_unvisited_grid_ids(study) or list(range(len(self._all_grids)))
        here = [i for i in unvisited if self.live is not None and self.live.serves(self._point(i))]
        study._storage.set_trial_system_attr(trial._trial_id, "search_space", self._search_space)
        study._storage.set_trial_system_attr(trial._trial_id, "grid_id", (here or unvisited)[0])

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nothing: Optuna's own calls `study.stop()`, which exists only under `study.optimize`."""

    def _get_unvisited_grid_ids(self, study: optuna.Study) -> list[int]:
        trials = study.get_trials(deepcopy=False)
        visited = [
            t.params or t.system_attrs.get("fixed_params", {})
            for t in trials
            if t.user_attrs.get(ROLE) != Role.BASELINE
        ]
        return [i for i in range(len(self._all_grids)) if self._point(i) not in visited]

    def _point(self, grid_id: int) -> dict[str, Any]:
        return dict(zip(self._param_names, self._all_grids[grid_id], strict=True))


def grid(space: Mapping[str, BaseDistribution], seed: int | None = None) -> ExhaustiveSampler:
    """Every combination of choices and of a few steps of each range, in a seeded order."""
    return ExhaustiveSampler({name: grid_values(distribution) for name, distribution in space.items()}, seed=seed)
