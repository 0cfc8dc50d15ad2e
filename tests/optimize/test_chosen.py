import pytest

from optimize.chosen import only_point
from optimize.errors import ConfigError
from optimize.schema import StudyConfig, StudySettings


def test_one_point_is_a_space_of_its_own() -> None:
    config = StudyConfig(study=StudySettings(name="chat"), at={"batch_size": 8})
    point = only_point(config, "serve-chat")
    assert point.study.name == "serve-chat"
    assert point.search_space == {"beam_size": [1], "batch_size": [8]}
    with pytest.raises(ConfigError, match="at.batch_size must be one value"):
        only_point(StudyConfig(study=StudySettings(name="chat"), at={"batch_size": [8, 9]}), "serve-chat")
