from typing import Any

import pytest

from optimize.config.compose import configuration
from optimize.config.schema import StudyConfig, StudySettings
from optimize.study.target import choose, only_point


def test_one_point_is_a_space_of_its_own() -> None:
    config = StudyConfig(study=StudySettings(name="chat"), at={"batch_size": 8})
    point = only_point(config, "serve-chat")
    assert point.study.name == "serve-chat"
    assert point.search_space == {"beam_size": [1], "batch_size": [8]}


def test_a_targets_checkpoint_is_calibrated_on_the_workload(
    simulated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[Any] = []

    def made(model: Any, recipes: Any, cache: Any, say: Any, calibration: Any = None) -> Any:
        samples.extend(calibration.samples)
        return {r.name: model.path for r in recipes}, {}

    monkeypatch.setattr("optimize.study.target.make_checkpoints", made)
    _, chosen = choose(configuration([*simulated, "+at.quantization=mixed8"]), "serve-smoke", print)
    assert chosen.config.engine.quantization == "mixed8" and len(samples) == 60
