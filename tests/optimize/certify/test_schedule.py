from dataclasses import replace
from typing import Any

import pytest

from optimize.certify.schedule import SCENARIOS, check, runs
from optimize.config.certify import Certify
from optimize.errors import ConfigError


def test_all_scenarios_run_repetition_by_repetition_and_faults_with_their_mitigation_too() -> None:
    planned = [r.key for r in runs(Certify(), 2, set())]
    half = len(planned) // 2
    assert {name for name, _, _ in planned} == set(SCENARIOS)
    assert [k[:2] for k in planned[:half]] == [k[:2] for k in planned[half:]]
    assert ("kill", True, 0) in planned and ("stress", True, 0) not in planned and ("freeze", True, 0) not in planned


def test_without_mitigations_each_is_run_bare() -> None:
    planned = list(runs(Certify(scenarios=["kill", "oom"], mitigations=False), 1, set()))
    assert [r.key for r in planned] == [("kill", False, 0), ("oom", False, 0)]


def test_completed_runs_are_not_repeated() -> None:
    planned = list(runs(Certify(scenarios=["kill"]), 2, {("kill", False, 0), ("kill", True, 1)}))
    assert [r.key for r in planned] == [("kill", True, 0), ("kill", False, 1)]


@pytest.mark.parametrize(
    ("changed", "repeats", "message"),
    [
        ({"scenarios": ["kil"]}, 3, "unknown scenario 'kil'; did you mean 'kill'"),
        ({}, 0, "repeats must be at least 1"),
        ({"stress_per_s": 0}, 3, "certify.stress_per_s must be positive"),
        ({"tolerance": 0.5}, 3, "certify.tolerance must be at least 1"),
        ({"rate_per_s": -1}, 3, "certify.rate_per_s"),
        ({"stress_steps": []}, 3, "certify.stress_steps"),
    ],
)
def test_invalid_settings_are_named(changed: dict[str, Any], repeats: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(replace(Certify(), **changed), repeats)
