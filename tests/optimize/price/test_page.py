"""The command: its page and files with and without a rate, and a rate that no capacity answers."""

import dataclasses
import json
from pathlib import Path

import pytest

from objectives import Estimate
from optimize.config.deploy import Deploy, Hardware, Price
from optimize.config.schema import StudyConfig, StudySettings
from optimize.errors import ConfigError
from optimize.price.page import price
from optimize.study.capacity import CAPACITY
from tests.optimize.rows import FIGURES, study_row

ROW = study_row(hardware="here", figures=FIGURES | {CAPACITY: Estimate(12.0, 10.0, 14.0, 3, "1/s")})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.setattr("optimize.price.page.requested_row", lambda config: ROW)
    machines = {"here": Hardware("here", hourly_usd=3.6), "there": Hardware("there", hourly_usd=1.8)}
    study = StudySettings(name="chat")
    return StudyConfig(study=study, instances=machines, price=Price(rate_per_s=20.0), output_dir=str(tmp_path))


def _report(config: StudyConfig) -> Path:
    return Path(config.output_dir) / "studies/chat/report"


def test_a_rate_gets_its_fleets_by_the_lower_end_of_the_capacity(config: StudyConfig) -> None:
    assert price(config) == 0
    best, second = json.loads((_report(config) / "fleet.json").read_text())
    assert best == {"machines": {"there": 3}, "hourly_usd": pytest.approx(5.4), "carries_per_s": pytest.approx(21.0)}
    assert second["machines"] == {"here": 3}
    assert "The cheapest fleet for 20 requests/s" in (_report(config) / "price.md").read_text()


def test_the_rate_of_the_deployment_is_that_of_the_fleet_unless_one_is_named(config: StudyConfig) -> None:
    price(dataclasses.replace(config, price=Price(), deploy=Deploy(rate_per_s=6.0)))
    assert json.loads((_report(config) / "fleet.json").read_text())[0]["machines"] == {"there": 1}


def test_without_a_rate_there_is_no_fleet_of_an_earlier_one(config: StudyConfig) -> None:
    price(config)
    price(dataclasses.replace(config, price=Price()))
    assert json.loads((_report(config) / "fleet.json").read_text()) == []
    assert "cheapest fleet" not in (_report(config) / "price.md").read_text()


def test_a_rate_that_no_capacity_answers_is_refused_before_anything_is_written(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.price.page.requested_row", lambda config: study_row())
    with pytest.raises(ConfigError, match=r"^price\.rate_per_s needs capacity_per_s of trial 4 of study chat"):
        price(config)
    assert not _report(config).exists()
