"""The description of a study is stored with it and read back, that of earlier versions too."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from objectives import Direction
from optimize.config.schema import Scenario
from optimize.decision.constraints import Limit
from optimize.study.info import ATTRIBUTE, FILE, StudyInfo, info_of, is_readable, store_info
from tests.storages import storage_at

INFO = StudyInfo(
    scenario=Scenario("chat", "Real-time chat", {"qps": 1.0}),
    directions={"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE},
    limits=(Limit("bleu", False, 0.95, True),),
    same_sample=("bleu",),
    model="demo",
    hardware="local",
    machine_class="rack-7",
    engine_settings="0123456789ab",
    signature={"machine": "two cores"},
    tags={"study": "chat", "scenario": "chat", "model": "demo"},
    workload={"name": "w", "digest": "d", "source": "f", "sizes": {"prompts": 3}},
    glossary="text",
)
EARLIER = {
    "scenario": {"name": "chat", "title": "Real-time chat", "weights": {"qps": 1.0}},
    "directions": {"qps": "maximize", "p99_latency_s": "minimize"},
    "model": "demo",
    "hardware": "local",
    "engine_settings": "0123456789ab",
    "signature": {"machine": "two cores"},
    "machine_class": "rack-7",
    "limits": [{"metric": "bleu", "upper": False, "value": 0.95, "relative": True}],
    "same_sample": ["bleu"],
}
"""The user attribute as it was stored before it had a class of its own."""


def test_the_folder_returns_what_was_written(tmp_path: Path) -> None:
    INFO.write(tmp_path)
    assert StudyInfo.read(tmp_path) == INFO


def test_the_storage_returns_what_was_stored(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=storage_at(f"sqlite:///{tmp_path}/optuna.db"))
    assert not is_readable(study) and info_of(study) == StudyInfo()
    store_info(study, INFO)
    assert is_readable(study) and info_of(study) == INFO


def test_the_attribute_of_an_earlier_version_is_read() -> None:
    study = optuna.create_study()
    study.set_user_attr(ATTRIBUTE, EARLIER)
    info = info_of(study)
    assert is_readable(study)
    assert (info.scenario, info.directions, info.limits) == (INFO.scenario, INFO.directions, INFO.limits)
    assert (info.same_sample, info.machines, info.tags) == (("bleu",), "rack-7", {})


@pytest.mark.parametrize("key", ["scenario", "directions", "limits", "same_sample"])
def test_a_study_that_cannot_be_recommended_from_is_not_readable(key: str) -> None:
    study = optuna.create_study()
    study.set_user_attr(ATTRIBUTE, {name: value for name, value in EARLIER.items() if name != key})
    assert not is_readable(study)


def test_without_a_class_the_machine_of_the_signature_counts() -> None:
    assert StudyInfo(signature={"machine": "two cores"}).machines == "two cores"
    assert StudyInfo().machines == ""


@pytest.mark.parametrize(
    ("raw", "tags"),
    [
        ({"study": "s", "scenario": "chat"}, {"study": "s", "scenario": "chat"}),
        ({"tags": {"study": "s"}, "workload": {}, "glossary": "text"}, {"study": "s"}),
    ],
)
def test_the_file_of_an_earlier_version_is_read(raw: dict[str, object], tags: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(raw))
    assert StudyInfo.read(tmp_path) == StudyInfo(tags=tags, glossary=str(raw.get("glossary", "")))
