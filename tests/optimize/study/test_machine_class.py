"""A study names the class of its machines, and refuses others unless told that they are alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize import hardware
from optimize.errors import ConfigError
from optimize.study.info import StudyInfo, info_of
from optimize.study.machine_class import check_machine
from tests.made import make_study
from tests.optimize.driver.test_session import stored

HERE, NAMED = StudyInfo(machine_class="two cores"), StudyInfo(machine_class="rack-7")


def test_another_class_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="figures of different hardware are not ranked together") as refusal:
        check_machine("chat", HERE, NAMED)
    assert str(refusal.value).endswith("hardware.machine_class='two cores'")


@pytest.mark.parametrize("stored", [HERE, StudyInfo(signature={"machine": "two cores"}), StudyInfo()])
def test_the_same_class_is_accepted_also_of_studies_that_did_not_store_it(stored: StudyInfo) -> None:
    check_machine("chat", stored, HERE)


def test_a_study_stores_its_class_and_resumes_on_it(simulated: list[str], tmp_path: Path) -> None:
    make_study([*simulated, "study.trials=0"])
    assert info_of(stored(tmp_path / "out")).machine_class == hardware.machine()
    with pytest.raises(ConfigError) as refusal:
        make_study([*simulated, "study.trials=0", "hardware.machine_class=other"])
    remedy = str(refusal.value).rpartition("hardware.machine_class=")[2]
    make_study([*simulated, "study.trials=1", f"hardware.machine_class={remedy}"])
    assert len(stored(tmp_path / "out").get_trials()) == 2


def test_a_named_class_includes_every_machine_of_its_name(simulated: list[str], tmp_path: Path) -> None:
    named = [*simulated, "hardware.machine_class=rack-7"]
    make_study([*named, "study.trials=0"])
    assert info_of(stored(tmp_path / "out")).machine_class == "rack-7"
    make_study([*named, "study.trials=1"])
    assert len(stored(tmp_path / "out").get_trials()) == 2
