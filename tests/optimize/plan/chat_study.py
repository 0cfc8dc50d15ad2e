"""The chat study with its files under a folder, and how a plan of it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.config.schema import StudyConfig
from optimize.config.validate import validate
from optimize.errors import ConfigError
from optimize.plan import make_plan
from tests.overrides import changed

FIXED = "_target_: optimize.workload.lengths.Fixed"
USER_METRIC = "_target_: objectives.quality.UserMetric"


def here(folder: Path, *overrides: str) -> StudyConfig:
    """The chat study with its files under a folder; on the real launcher, whose checks must hold."""
    stored = [f"tracking.storage=sqlite:///{folder}/out/optuna.db", f"tracking.uri=sqlite:///{folder}/out/mlflow.db"]
    return changed(f"output_dir={folder}/out", f"cache_dir={folder}/cache", *stored, *overrides)


def refusal(config: StudyConfig) -> str:
    validate(config)
    with pytest.raises(ConfigError) as refusal:
        make_plan(config)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def bare(folder: Path, *overrides: str) -> StudyConfig:
    """The chat study on a file of prompts alone."""
    (folder / "bare.jsonl").write_text("".join(f'{{"prompt": "the dog {i}"}}\n' for i in range(5)), encoding="utf-8")
    return here(folder, f"workload.path={json.dumps(str(folder / 'bare.jsonl'))}", *overrides)
