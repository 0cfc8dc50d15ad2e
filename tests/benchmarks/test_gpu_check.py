"""The check of a GPU: steps that a script stands for, one of which fails and one of which does not end."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from benchmarks import gpu_check, gpu_stack, gpu_steps
from benchmarks.gpu_check import FAILED, LEFT_OUT, LIMITS_S, PASSED, STACK, TIMED_OUT, Step, page, run_steps
from objectives import Estimate
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.outcome import Role, State


def step(name: str, script: str, limit_s: float = 60.0) -> Step:
    return Step(name, [sys.executable, "-S", "-c", script], limit_s)


FACT = 'print(\'{"what": "%s", "ready_s": 1.25}\', flush=True)\n'
HANGS = "import os, time\nprint('{\"pid\": %d}' % os.getpid(), flush=True)\n" + FACT % "begun" + "time.sleep(60)"


def test_later_steps_run_though_earlier_ones_fail_or_do_not_end(tmp_path: Path) -> None:
    lines: list[str] = []
    steps = [
        step("hangs", HANGS, limit_s=1.0),
        step("fails", FACT % "half" + "raise ValueError('no kernel')"),
        step("works", "print('a library says hello')\n" + FACT % "all"),
    ]
    results = run_steps(steps, tmp_path, 60.0, lines.append)
    assert [r.state for r in results] == [TIMED_OUT, FAILED, PASSED]
    assert [r.facts[-1]["what"] for r in results] == ["begun", "half", "all"]
    assert lines[1].endswith("(ValueError: no kernel)") and not psutil.pid_exists(results[0].facts[0]["pid"])
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [entry["state"] for entry in stored] == [TIMED_OUT, FAILED, PASSED] and len(stored[2]["facts"]) == 1


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
    assert [*LIMITS_S] == [STACK, *gpu_steps.STEPS] and sum(LIMITS_S.values()) <= 12 * 60


def test_what_a_step_leaves_of_its_time_belongs_to_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 100 s each that take 30, 250 and 100 s: the second may take 170, and the last what the budget holds."""
    now, limits = 0.0, list[float]()

    def take(step: Step, limit_s: float, *_: object) -> None:
        nonlocal now
        limits.append(limit_s)
        now += min(limit_s, float(step.command[0]))

    monkeypatch.setattr(gpu_check, "_run", take)
    run_steps([Step(s, [s], 100.0) for s in ("30", "250", "100")], tmp_path, 280.0, lambda _: None, lambda: now)
    assert limits == [100.0, 170.0, 80.0]


def facts(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_package_that_does_not_import_keeps_no_other_from_being_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_stack, "MODULES", ("no_such_module", "json"))
    monkeypatch.setattr(gpu_stack, "_errors", [])
    gpu_stack.conclude()
    gpu_stack.stack()
    seen = {fact["what"]: fact for fact in facts(capsys)}
    assert "No module named" in str(seen["import no_such_module"]["error"]) and "value" in seen["import json"]
    with pytest.raises(SystemExit, match="import no_such_module: ModuleNotFoundError"):
        gpu_stack.conclude()


def test_trials_of_the_short_study_are_told_once_and_when_they_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, shown = gpu_steps.Bench("demo", tmp_path), set[int]()
    ledger = Ledger(study_folder(str(tmp_path / "mlruns"), "gpu_check_smoke"))
    running = TrialRecord("gpu_check_smoke", 1, Role.SEARCH, {"batch_size": 8}, {}, {})
    ended = dataclasses.replace(
        running, number=0, state=State.COMPLETED, estimates={"qps": Estimate(4, 3, 5, 9, "1/s")}
    )
    for record in (running, ended):
        ledger.write(record)
    gpu_steps.show_trials(bench, shown)
    assert [(fact["what"], fact["qps"]) for fact in facts(capsys)] == [("trial 0", 4)]
    ledger.write(dataclasses.replace(running, state=State.FAILED))
    gpu_steps.show_trials(bench, shown)
    assert [(fact["what"], fact["state"]) for fact in facts(capsys)] == [("trial 1", "failed")]
