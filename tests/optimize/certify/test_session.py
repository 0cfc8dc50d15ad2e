"""The target rate of the stress test: the user's, the row's measured capacity, or one beyond any engine."""

import pytest

from objectives import Estimate
from optimize.certify.session import with_stress_target
from optimize.config.certify import Certify
from optimize.config.schema import StudyConfig
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.study.target import Target


@pytest.mark.parametrize(
    ("setting", "capacity", "target_per_s"),
    [
        (None, None, 1000.0),
        (None, Estimate(12.0, 10.0, 14.0, 3, "1/s"), 10.0),
        (None, Estimate(0.0, 0.0, 0.1, 3, "1/s"), 1000.0),
        (55.0, Estimate(12.0, 10.0, 14.0, 3, "1/s"), 55.0),
    ],
)
def test_the_stress_target_is_the_lower_end_of_the_capacity_unless_one_is_set(
    setting: float | None, capacity: Estimate | None, target_per_s: float
) -> None:
    trial = TrialConfig(EngineConfig("m", "fp16"), RequestConfig())
    target = Target("row", {}, trial, {} if capacity is None else {"capacity_per_s": capacity})
    config = with_stress_target(StudyConfig(certify=Certify(stress_per_s=setting)), target)
    assert config.certify.stress_per_s == target_per_s == config.certify.stress_target_per_s
