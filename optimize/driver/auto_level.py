"""The level of a study's load where it is set to `auto`: found once, the same for all trials, workers and sessions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from optimize.capacity import Capacity
from optimize.driver.progress import Progress
from optimize.evaluation.auto_level import at, baseline_config, in_words, is_auto, level_of
from optimize.executor.base import Executor
from optimize.files import locked
from optimize.plan import Plan
from optimize.study.coordination import agreed
from optimize.study.info import make_info, store_info

if TYPE_CHECKING:
    import optuna

_ATTRIBUTE = "auto_level"
"""User attribute of the study: JSON of the level, the capacity that it is a share of, and both in words."""


def at_auto_level(
    plan: Plan, study: optuna.Study, executor: Executor, checkpoints: Mapping[str, str], progress: Progress
) -> Plan:
    """The plan at the level of its load; the plan itself where its load has one of its own.

    Raises:
        ConfigError, OptimizeError: as `optimize.evaluation.auto_level.level_of`.
    """
    if not is_auto(plan):
        return plan
    with locked(plan.folder / f"{_ATTRIBUTE}.lock"):  # another driver of the study may be asking
        text = study.user_attrs.get(_ATTRIBUTE) or _level(plan, executor, checkpoints, progress)
        raw = json.loads(agreed(study, _ATTRIBUTE, text))
    plan = at(plan, raw["level"])
    store_info(study, make_info(plan))
    progress.say(raw.get("words") or in_words(plan, Capacity.from_dict(raw["capacity"]), raw["level"]))
    return plan


def _level(plan: Plan, executor: Executor, checkpoints: Mapping[str, str], progress: Progress) -> str:
    progress.phase("finding the load that vLLM's defaults carry")
    level = level_of(plan, lambda: executor.capacity(baseline_config(plan, checkpoints)))
    capacity = level.capacity.to_dict() if level.capacity is not None else None
    return json.dumps({"level": level.value, "capacity": capacity, "words": level.words})
