"""The check of a GPU: steps that a script stands for, one of which fails and one of which does not end."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import gpu_steps
from benchmarks.gpu_check import FAILED, LEFT_OUT, LIMITS_S, PASSED, TIMED_OUT, Step, page, run_steps


def step(name: str, script: str, limit_s: float = 60.0) -> Step:
    return Step(name, [sys.executable, "-S", "-c", script], limit_s)


FACT = 'print(\'{"what": "%s", "ready_s": 1.25}\', flush=True)\n'
HANGS = "import os, time\nprint('{\"pid\": %d}' % os.getpid(), flush=True)\n" + FACT % "begun" + "time.sleep(60)"


def test_later_steps_run_though_earlier_ones_fail_or_do_not_end(tmp_path: Path) -> None:
    lines: list[str] = []
    steps = [
        step("fails", FACT % "half" + "raise ValueError('no kernel')"),
        step("hangs", HANGS, limit_s=1.0),
        step("works", "print('a library says hello')\n" + FACT % "all"),
    ]
    results = run_steps(steps, tmp_path, 60.0, lines.append)
    assert [r.state for r in results] == [FAILED, TIMED_OUT, PASSED]
    assert [r.facts[-1]["what"] for r in results] == ["half", "begun", "all"]
    assert lines[0].endswith("(ValueError: no kernel)") and not psutil.pid_exists(results[1].facts[0]["pid"])
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [entry["state"] for entry in stored] == [FAILED, TIMED_OUT, PASSED] and len(stored[2]["facts"]) == 1


def test_facts_are_kept_before_their_step_has_ended(tmp_path: Path) -> None:
    waits = FACT % "first" + "import time\n" + (
        f"import pathlib\nfile = pathlib.Path({str(tmp_path / 'results.json')!r})\n"
        "while not (file.is_file() and 'first' in file.read_text()): time.sleep(0.01)\n"
    )  # fmt: skip
    assert [r.state for r in run_steps([step("waits", waits, 30.0)], tmp_path, 60.0, lambda _: None)] == [PASSED]


def test_what_the_time_does_not_reach_is_said_to_be_left_out(tmp_path: Path) -> None:
    times = iter([0.0, 700.0])
    results = run_steps([step("late", "raise SystemExit")], tmp_path, 600.0, lambda _: None, lambda: next(times))
    assert [r.state for r in results] == [LEFT_OUT]


def test_the_page_shows_every_step_with_its_facts(tmp_path: Path) -> None:
    results = run_steps([step("a", FACT % "x|y"), step("b", "raise KeyError('z')")], tmp_path, 60.0, lambda _: None)
    text = page(results, datetime(2026, 11, 28, tzinfo=UTC))
    assert "Measured on 2026-11-28" in text and "| x/y | 1.25 |" in text and "| b | failed: KeyError: 'z' |" in text


def test_every_step_has_a_limit_and_all_fit_into_a_lease() -> None:
    assert [*LIMITS_S] == [*gpu_steps.STEPS] and sum(LIMITS_S.values()) <= 15 * 60
