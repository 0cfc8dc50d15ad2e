"""When the search of a study ends before its trials are used up; workers answer at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from optimize.config.compose import configuration
from optimize.errors import ConfigError
from optimize.plan import Plan, make_plan
from optimize.study.trials import budget_trials
from optimize.testing.instant_workers import Instant
from tests.optimize.driver.loops import looped


def planned(tmp_path: Path, workload_file: Path, *overrides: str) -> Plan:
    return make_plan(configuration([
        "+study=smoke", "engine=simulated", "workload=file", f"workload.path={workload_file}", "sampler=random",
        f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "search_space.quantization=null",
        "confirm.candidates=0", "study.trials=30", *overrides,
    ]))  # fmt: skip


def test_a_search_until_noise_ends_where_nothing_can_be_gained_any_more(
    tmp_path: Path, workload_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_points = ["~search_space.batch_size", "~search_space.beam_size", "+search_space.batch_size=[4,5]"]
    plan = planned(tmp_path, workload_file, *two_points, "+baseline.batch_size=4", "search.until=noise")
    assert 12 <= len(budget_trials(looped(plan, Instant(plan), 1))) < 31
    message = r"better by more than a confirmation can tell \([\d.]+%\) is [0-3]?\d% \(search.until=noise\)"
    assert re.search(message, capsys.readouterr().out)


def test_an_unknown_end_is_refused(tmp_path: Path, workload_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"search.until must be one of budget, noise, got 'tomorrow'"):
        planned(tmp_path, workload_file, "search.until=tomorrow")
