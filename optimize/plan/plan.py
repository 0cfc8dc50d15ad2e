"""The parts of a study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives import Objective
from optimize.config.measuring import WORKLOAD
from optimize.config.schema import StudyConfig
from optimize.decision.constraints import Limit
from optimize.engine.base import Launcher
from optimize.load.arrivals import Arrivals, ClosedLoop
from optimize.load.levels import auto_setting
from optimize.model.hashes import model_hash
from optimize.redaction import masked, redact_all
from optimize.search.space import SearchSpace
from optimize.workload.workload import Workload

_FIXED = ("workload", "load", "model", "engine", "seed", "files", "drafts", "adapters", "tasks", "quality", "asks")
"""Parts of the signature that must stay the same between the sessions of a study."""


@dataclass(frozen=True)
class Plan:
    """The parts of a study.

    Attributes:
        config: The configuration that they were built from.
        space: The search space.
        objectives: Objective name -> its estimator, in the order of Optuna's values.
        metrics: Metric name -> its estimator, the objectives included.
        limits: The constraints.
        launcher: Starts engines.
        arrivals: When requests are due.
        workload: Prompts and references.
        folder: The folder of the study's files.
        signature: The conditions that every figure of this study depends on.
        reference: What answers are scored against: WORKLOAD or BASELINE, see `optimize.config.measuring.Quality`.
    """

    config: StudyConfig
    space: SearchSpace
    objectives: Mapping[str, Objective]
    metrics: Mapping[str, Objective]
    limits: list[Limit]
    launcher: Launcher
    arrivals: Arrivals
    workload: Workload
    folder: Path
    signature: Mapping[str, str]
    reference: str = WORKLOAD

    @property
    def users(self) -> int | None:
        """Users of a closed loop that are the same in all trials; None of other loads."""
        varies = self.config.load.capacity.search or auto_setting(self.config.load.arrivals)
        return self.arrivals.users if isinstance(self.arrivals, ClosedLoop) and not varies else None

    def engine_settings(self) -> str:
        """Hash of the settings that all engines of this study share and on which it depends whether one starts."""
        hardware = self.config.hardware  # the price has no influence on an engine
        engine = {name: value for name, value in self.config.engine.items() if name != "model"}
        if engine.get("python") is None:
            engine.pop("python", None)  # studies from before it was a setting
        settings = masked([engine, {"name": hardware.name, "env": hardware.env}])  # whatever their secrets
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def fingerprint(self) -> dict[str, Any]:
        """Key -> value of all settings that must stay the same between the sessions of a study."""
        settings = {
            **{f"search_space.{k}": v for k, v in self.space.fingerprint().items()},
            **{f"objectives.{k}": json.dumps(n, sort_keys=True) for k, n in masked(self.config.objectives).items()},
            **{f"constraints.{limit.name}": "set" for limit in self.limits},
            **{k: v for k, v in self.signature.items() if k in _FIXED},
        }
        return redact_all(settings)


def content_of(plan: Plan, checkpoint: str) -> str:
    """Hash of a checkpoint's files, with the files, draft models and adapters that flags name, and the adapters that
    requests ask for: what an engine's answers rest on.
    """
    parts = [plan.signature.get(key, "") for key in ("files", "drafts", "adapters", "asks")]
    return "".join([model_hash(checkpoint, Path(plan.config.cache_dir)), *parts])
