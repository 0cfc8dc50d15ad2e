"""Figures that depend on different things are not compared in silence."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from optimize.report.matrix import to_markdown
from optimize.study.signatures import differences, warning
from tests.conftest import Run
from tests.made import make_study
from tests.optimize.report.test_matrix import CHAT, DEFAULTS

A = {"machine": "two cores", "engine": "vllm 0.32"}
B = {"machine": "one H200", "engine": "vllm 0.32"}


def test_equal_signatures_differ_in_nothing() -> None:
    assert differences([("trial 0", A), ("trial 1", dict(A))]) == []
    assert warning([], "measure anew") == ""


def test_each_difference_names_the_trials_that_have_it() -> None:
    lines = differences([("trial 0", A), ("trial 1", B), ("trial 2", A)])
    assert lines == ["machine: two cores (trial 0, trial 2); one H200 (trial 1)"]
    assert warning(lines, "measure anew").endswith("(trial 1)): measure anew")


def test_only_the_requested_keys_are_compared_and_a_missing_one_is_unknown() -> None:
    assert differences([("chat", A), ("bulk", B)], ["engine"]) == []
    assert differences([("chat", A), ("bulk", {})], ["engine"]) == ["engine: vllm 0.32 (chat); unknown (bulk)"]


def test_rows_from_two_machines_come_with_a_warning() -> None:
    elsewhere = dataclasses.replace(DEFAULTS, signature={"machine": "one H200", "seed": "1"})
    assert "warning" not in to_markdown([CHAT, DEFAULTS])
    text = to_markdown([CHAT, elsewhere])
    assert "machine: two cores (chat); one H200 (abtest)" in text and "seed:" not in text.split("- **chat**")[0]


def test_a_study_measured_on_two_machines_says_so(
    optimize: Run, simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*simulated, "search_space.beam_size=null"]
    make_study([*overrides, "study.trials=0"])
    assert "warning" not in capsys.readouterr().out
    # as if the baseline had been measured elsewhere
    with closing(sqlite3.connect(tmp_path / "out/optuna.db")) as storage, storage:
        (raw,) = storage.execute("select value_json from trial_user_attributes where key = 'signature'").fetchone()
        moved = json.dumps({**json.loads(raw), "machine": "another machine"})
        storage.execute("update trial_user_attributes set value_json = ? where key = 'signature'", (moved,))
    make_study([*overrides, "study.trials=1"])
    differing = "differ in more than the configuration (machine: another machine (trial 0); "
    assert differing in capsys.readouterr().out
    assert "differ in more than the configuration" in optimize(overrides, verb="optimize.recommend").stdout
