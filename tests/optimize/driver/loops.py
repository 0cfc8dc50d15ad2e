"""A loop over instant workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import optuna
from optuna.trial import TrialState

from optimize.driver.baseline import with_defaults
from optimize.driver.loop import Loop
from optimize.driver.progress import Progress
from optimize.driver.session import Session
from optimize.executor.worker import Message
from optimize.ledger import Ledger
from optimize.plan import Plan
from optimize.study.lifecycle import open_study
from optimize.testing.instant_workers import Instant, instant_fleet


class Slow(Instant):
    """Workers whose answers arrive last asked first answered, so that trials end in another order than they began."""

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        return [self._messages.pop()] if self._messages else []


class Silent:
    """A tracker that nothing comes of."""

    def begin(self, *_: object) -> None: ...
    def end(self, *_: object) -> None: ...


def looped(
    plan: Plan, transport: Instant, slots: int, study: optuna.Study | None = None,
    await_quiet: Callable[[], None] | None = None,
) -> optuna.Study:  # fmt: skip
    study = study or open_study(plan)
    progress = Progress(plan.config.study.trials + 1, list(plan.objectives))
    tracker: Any = Silent()
    checkpoints = {recipe.name: plan.config.model.path for recipe in plan.space.recipes_needed()}
    session = Session(plan, study, Ledger(plan.folder), tracker, progress, checkpoints, {})
    with instant_fleet(transport, plan, slots) as executor:
        Loop(with_defaults(session, executor), executor, await_quiet).run()
    return study


def of_role(study: optuna.Study, role: str) -> Iterator[Any]:
    return (t for t in study.get_trials() if t.user_attrs.get("role") == role and t.state is TrialState.COMPLETE)
