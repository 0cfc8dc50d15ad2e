"""The level of a study's load where it is set to `auto`: found once, the same for all trials, workers and sessions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from optimize.capacity import Capacity
from optimize.driver.progress import Progress
from optimize.evaluation.auto_level import at, baseline_config, in_words, is_auto, level_from, required
from optimize.executor.base import Executor
from optimize.files import locked
from optimize.plan import Plan
from optimize.study.coordination import agreed
from optimize.study.info import make_info, store_info

if TYPE_CHECKING:
    import optuna

_ATTRIBUTE = "auto_level"
"""User attribute of the study: JSON of the level and the capacity that it is a share of."""


def at_auto_level(
    plan: Plan, study: optuna.Study, executor: Executor, checkpoints: Mapping[str, str], progress: Progress
) -> Plan:
    """The plan at the level of its load; the plan itself where its load has one of its own.

    Raises:
        ConfigError: the engine carries nothing within the SLO, or the endpoint refuses load.
        OptimizeError: vLLM's defaults do not run here.
    """
    if not is_auto(plan):
        return plan
    with locked(plan.folder / f"{_ATTRIBUTE}.lock"):  # another driver of the study may be asking
        text = study.user_attrs.get(_ATTRIBUTE) or _asked(plan, executor, checkpoints, progress)
        raw = json.loads(agreed(study, _ATTRIBUTE, text))
    plan = at(plan, raw["level"])
    store_info(study, make_info(plan))
    progress.say(in_words(plan, Capacity.from_dict(raw["capacity"]), raw["level"]))
    return plan


def _asked(plan: Plan, executor: Executor, checkpoints: Mapping[str, str], progress: Progress) -> str:
    progress.phase("finding the load that vLLM's defaults carry")
    capacity = required(plan, lambda: executor.capacity(baseline_config(plan, checkpoints)))
    return json.dumps({"level": level_from(plan, capacity), "capacity": capacity.to_dict()})
