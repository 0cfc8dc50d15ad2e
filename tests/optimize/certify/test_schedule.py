from dataclasses import replace
from typing import Any

import pytest

from optimize.certify.schedule import SCENARIOS, check, runs
from optimize.config.certify import Certify
from optimize.errors import ConfigError


def test_all_scenarios_are_run_repeat_by_repeat_faults_with_their_mitigation_too() -> None:
    found = [r.key for r in runs(Certify(), 2, set())]
    half = len(found) // 2
    assert {name for name, _, _ in found} == set(SCENARIOS)
    assert [k[:2] for k in found[:half]] == [k[:2] for k in found[half:]]
    assert ("kill", True, 0) in found and ("stress", True, 0) not in found and ("freeze", True, 0) not in found


def test_without_mitigations_each_is_run_bare() -> None:
    found = list(runs(Certify(scenarios=["kill", "oom"], mitigations=False), 1, set()))
    assert [r.key for r in found] == [("kill", False, 0), ("oom", False, 0)]


def test_what_is_done_is_not_run_again() -> None:
    found = list(runs(Certify(scenarios=["kill"]), 2, {("kill", False, 0), ("kill", True, 1)}))
    assert [r.key for r in found] == [("kill", True, 0), ("kill", False, 1)]


@pytest.mark.parametrize(
    ("changed", "repeats", "said"),
    [
        ({"scenarios": ["kil"]}, 3, "unknown scenario 'kil'; did you mean 'kill'"),
        ({}, 0, "repeats must be at least 1"),
        ({"stress_per_s": 0}, 3, "certify.stress_per_s must be positive"),
        ({"tolerance": 0.5}, 3, "certify.tolerance must be at least 1"),
        ({"rate_per_s": -1}, 3, "certify.rate_per_s"),
        ({"stress_steps": []}, 3, "certify.stress_steps"),
    ],
)
def test_settings_that_cannot_be_are_named(changed: dict[str, Any], repeats: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(replace(Certify(), **changed), repeats)
