"""Whole studies: one on the simulated engine as a user would run it, the others on instant workers."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from optimize.driver.signals import exclusive
from optimize.engine.reaper import restore_signals
from optimize.errors import ConfigError, FailureKind
from optimize.executor.base import Job
from optimize.ledger import Ledger
from optimize.outcome import Evaluation, Infeasible
from optimize.testing.instant_workers import Instant
from tests.conftest import ROOT, Run, engine_processes, gone
from tests.made import make_study
from tests.storages import storage_at, study_at


def stored(out: Path, name: str = "smoke") -> optuna.Study:
    return study_at(f"sqlite:///{out}/optuna.db", name)


def runs(out: Path) -> list[Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name("optimize")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_a_study_ends_with_a_recommendation_and_everything_is_tracked(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    done = optimize([*simulated, "study.trials=4"])
    assert done.returncode == 0, done.stderr
    assert "recommended for Real-time chat" in done.stdout
    assert "simulated (no measurement)" in done.stdout

    out = tmp_path / "out"
    study = stored(out)
    trials = study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 5
    assert trials[0].user_attrs["role"] == "baseline"
    assert trials[0].params == {"batch_size": 128, "beam_size": 1}
    assert study.metric_names == ["qps", "p99_latency_s", "memory_bytes", "bleu"]

    tracked = runs(out)
    parents = [r for r in tracked if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in tracked if "mlflow.parentRunId" in r.data.tags]
    assert len(parents) == 1 and len(children) == 5
    assert {r.info.status for r in tracked} == {"FINISHED"}
    by_trial = {int(r.data.tags["trial"]): r for r in children}
    for trial in trials:
        assert by_trial[trial.number].data.metrics["qps"] == pytest.approx(trial.values[0])
    client = MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
    assert len(client.get_metric_history(by_trial[0].info.run_id, "system/cpu_cores")) > 0
    assert {f.path for f in client.list_artifacts(by_trial[0].info.run_id)} >= {
        "engine.log",
        "requests.parquet",
    }

    assert {p.name for p in (out / "studies/smoke/report").iterdir()} >= {
        "front.md",
        "front.json",
        "front.csv",
        "pareto.html",
    }
    matrix = json.loads((out / "matrix.json").read_text())
    assert matrix[0]["scenario"] == "chat"
    assert "cdn." not in (out / "studies/smoke/report/pareto.html").read_text()[:2000]


def test_the_same_command_resumes_and_adds_nothing_when_the_budget_is_spent(
    optimize_process: Run, simulated: list[str], tmp_path: Path
) -> None:
    make_study([*simulated, "study.trials=1"])
    # In a process that has imported nothing: what runs in the background imports as much as the report does.
    again = optimize_process([*simulated, "study.trials=1"])
    assert again.returncode == 0, again.stderr
    assert len(stored(tmp_path / "out").trials) == 2
    make_study([*simulated, "study.trials=2"])
    assert len(stored(tmp_path / "out").trials) == 3


def test_a_changed_space_is_refused_with_the_difference_and_fresh_keeps_the_old_study(
    simulated: list[str], tmp_path: Path
) -> None:
    make_study([*simulated, "study.trials=0"])
    changed = [*simulated, "study.trials=0", "search_space.batch_size.high=256"]
    with pytest.raises(ConfigError, match="batch_size.*128.*256"):
        make_study(changed)
    make_study([*changed, "study.fresh=true"])
    names = optuna.get_all_study_names(storage_at(f"sqlite:///{tmp_path}/out/optuna.db"))
    assert len(names) == 2 and "smoke" in names


def test_a_configuration_that_cannot_run_is_infeasible_and_never_a_measurement(
    simulated: list[str], tmp_path: Path
) -> None:
    started: list[int] = []

    class OutOfMemory(Instant):
        def evaluate(self, job: Job) -> Evaluation:
            batch = dict(job.config.engine.flags).get("max_num_seqs", 128)
            if batch < 200:
                return super().evaluate(job)
            started.append(batch)
            return Evaluation(Infeasible(FailureKind.DEVICE_OOM, "out of memory"), seconds={"total": 3.0})

    space = ["sampler=grid", "~search_space.batch_size", "+search_space.batch_size=[128,512]"]
    make_study([*simulated, "study.trials=4", *space], OutOfMemory)
    trials = stored(tmp_path / "out").get_trials()
    imputed = [t for t in trials if t.user_attrs["imputed"]]
    assert len(imputed) == 2 and all(t.params["batch_size"] == 512 for t in imputed)
    # The second differs in its beams only: the engine that did not start is not started again.
    assert f"known from trial {imputed[0].number}" in imputed[1].user_attrs["reason"]
    assert started == [512]
    assert all(t.state is TrialState.COMPLETE and t.constraints["runs"] > 0 for t in imputed)
    assert all("device_oom" in t.user_attrs["reason"] and not t.user_attrs["estimates"] for t in imputed)
    first = imputed[0]
    before = [t.values for t in trials if t.number < first.number]
    assert first.values[0] == min(v[0] for v in before)
    assert first.values[1] == max(v[1] for v in before)


def test_an_engine_that_dies_under_load_is_infeasible_and_its_tree_is_gone(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    done = optimize([*simulated, "study.trials=0", "engine.die_after_requests=20"])
    assert done.returncode == 1
    assert "baseline" in done.stderr and "crash" in done.stderr
    record = next(iter(Ledger(tmp_path / "out/studies/smoke").records()))
    assert record.state == "infeasible" and record.reason.startswith("crash")
    assert engine_processes(str(tmp_path)) == []


def start(overrides: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.optimize.driver.without_pictures", *overrides],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore_signals,  # a shell that runs the tests in the background has them ignore SIGINT
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """The next line of a command's output that holds a pattern."""
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"never printed {pattern!r}: {process.stderr and process.stderr.read()}")


@pytest.mark.slow
def test_an_interrupt_and_a_kill_lose_at_most_the_running_trials_and_the_same_command_goes_on(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    """In the midst of a search; `tests/faults/test_signals.py` sends SIGTERM and SIGKILL in every phase of a study."""
    overrides = [*simulated, "study.trials=2"]
    _interrupt(overrides, tmp_path)
    process = start(overrides)
    read_until(process, r"^trial \d+ ")
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert gone(str(tmp_path))
    last = optimize(overrides)
    assert last.returncode == 0, last.stderr
    trials = stored(tmp_path / "out").get_trials()
    assert sum(t.state is TrialState.COMPLETE for t in trials) == 3
    assert sum(t.state is TrialState.FAIL for t in trials) <= 2
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert sum(t.user_attrs.get("role") == "baseline" for t in trials if t.state is TrialState.COMPLETE) == 1
    assert not [r for r in runs(tmp_path / "out") if r.info.status == "RUNNING"]
    assert all(r.state != "running" for r in Ledger(tmp_path / "out/studies/smoke").records())


def _interrupt(overrides: list[str], folder: Path) -> None:
    """Send a study SIGINT as its search begins: it reports the results so far."""
    process = start(overrides)
    read_until(process, r"^trial 1 ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "recommended for" in out and "Traceback" not in err
    assert engine_processes(str(folder)) == []


def test_two_sessions_on_one_study_are_refused(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    (tmp_path / "out/studies/smoke").mkdir(parents=True)
    with exclusive(tmp_path / "out/studies/smoke", "smoke"):
        second = optimize([*simulated, "study.trials=3"])
    assert second.returncode == 2
    assert "running in another process" in second.stderr
    assert not (tmp_path / "out/optuna.db").exists()


def test_a_tracking_server_that_is_down_costs_no_trial_and_sync_catches_up(
    optimize: Run, simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study([*simulated, "study.trials=1", "tracking.uri=http://127.0.0.1:9", "tracking.artifacts=null"])
    assert capsys.readouterr().out.count("MLflow did not take the results") == 1
    assert sum(t.state is TrialState.COMPLETE for t in stored(tmp_path / "out").get_trials()) == 2
    synced = optimize(simulated, verb="optimize.sync")
    assert synced.returncode == 0, synced.stderr
    assert "2 trials mirrored" in synced.stdout
    assert len(runs(tmp_path / "out")) == 3
    assert "0 trials mirrored" in optimize(simulated, verb="optimize.sync").stdout


def test_recommend_combines_the_studies_of_all_scenarios(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    make_study([*simulated, "study.trials=0"])
    make_study([*simulated, "study.trials=1", "scenario=bulk", "study.name=other"])
    # A smaller study of a scenario, a smoke test say, does not take the row of a larger one.
    make_study([*simulated, "study.trials=0", "scenario=bulk", "study.name=small"])
    done = optimize([f"output_dir={tmp_path}/out"], verb="optimize.recommend")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out/matrix.json").read_text())
    assert sorted((row["scenario"], row["study"]) for row in rows) == [("bulk", "other"), ("chat", "smoke")]


def test_a_recipe_that_cannot_be_served_is_known_before_and_costs_no_trial(
    simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready_made = ["recipes.int4.scheme=null", "recipes.int4.checkpoint=demo/model"]
    space = [
        "search_space.quantization.choices=[fp16,int4]", "~search_space.beam_size", "~search_space.batch_size",
        "+search_space.batch_size=[4,8]",
    ]  # fmt: skip
    overrides = [o for o in simulated if o != "search_space.quantization=null"]
    make_study([*overrides, *ready_made, *space, "sampler=grid", "engine.refuses=[int4]", "study.trials=3"])
    assert "note: int4 cannot be served here, and is not tried: no such kernel" in capsys.readouterr().out
    trials = list(Ledger(tmp_path / "out/studies/smoke").records())
    refused = [t for t in trials if t.params["quantization"] == "int4"]
    assert all(t.state == "infeasible" and "total" not in t.seconds for t in refused)
    # With a budget of three trials, all six points of the grid, where vLLM's default of 128 is: three cost nothing.
    points = {(t.params["quantization"], t.params["batch_size"]) for t in trials}
    assert points == set(itertools.product(("fp16", "int4"), (4, 8, 128)))
