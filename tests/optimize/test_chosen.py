import pytest

from objectives import Estimate
from optimize.chosen import only_point, pick
from optimize.errors import ConfigError
from optimize.recommend import Candidate, Recommendation
from optimize.schema import StudyConfig, StudySettings

ONE = Estimate(1.0, 1.0, 1.0, 1, "x")


def candidate(number: int, baseline: bool = False) -> Candidate:
    return Candidate(number, {"batch_size": number}, {}, True, baseline)


def found(runner_up: bool = True) -> Recommendation:
    every = [candidate(0, baseline=True), candidate(3), candidate(7)]
    other = every[2] if runner_up else None
    return Recommendation(every[1], ONE, {}, other, False, every[1:], every, {})


@pytest.mark.parametrize(("row", "number"), [("recommended", 3), ("runner-up", 7), ("baseline", 0), ("7", 7)])
def test_a_row_is_named_by_its_place_or_its_trial(row: str, number: int) -> None:
    assert pick(found(), row, "chat").number == number


@pytest.mark.parametrize(
    ("row", "said"),
    [("best", "must be recommended, runner-up, baseline or a measured trial's number"), ("4", "0, 3, 7")],
)
def test_a_row_that_is_not_there_is_answered_with_those_that_are(row: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pick(found(), row, "chat")


def test_no_runner_up_is_said() -> None:
    with pytest.raises(ConfigError, match="study 'chat' has none"):
        pick(found(runner_up=False), "runner-up", "chat")


def test_one_point_is_a_space_of_its_own() -> None:
    config = StudyConfig(study=StudySettings(name="chat"), at={"batch_size": 8})
    point = only_point(config, "serve-chat")
    assert point.study.name == "serve-chat"
    assert point.search_space == {"beam_size": [1], "batch_size": [8]}
    with pytest.raises(ConfigError, match="at.batch_size must be one value"):
        only_point(StudyConfig(study=StudySettings(name="chat"), at={"batch_size": [8, 9]}), "serve-chat")
