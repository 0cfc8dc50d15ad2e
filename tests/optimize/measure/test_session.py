"""One configuration measured by hand, on the simulated engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from objectives import Estimate
from optimize.ledger import Ledger, TrialRecord
from optimize.measure.session import combined, report
from optimize.outcome import Role, State
from optimize.testing.scripted_engine import ScriptedTelemetry
from tests.conftest import Run
from tests.optimize.evaluation.scripted import Rig


def test_figures_phases_and_audit_are_printed_and_tracked(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    own = ["quality.reference=baseline", "quality.prompts=12"]
    done = optimize([*simulated, "+at.batch_size=4", "repeats=2", *own], verb="optimize.measure")
    assert done.returncode == 0, done.stderr
    basis = "against the unquantized model's own answers"
    assert f"quality is {basis}: 12 prompts answered 2 times" in " ".join(done.stdout.split())
    for message in (
        "| qps |",
        "| repeat 0 | repeat 1 |",
        "client: requests sent",
        "machine: undisturbed",
        "settled after",
        f"quality: {basis}",
    ):
        assert message in done.stdout
    assert "engine: simulated (no measurement)" in done.stdout

    (folder,) = (tmp_path / "out/studies").iterdir()
    records = list(Ledger(folder).records())
    assert [r.state for r in records] == ["completed"] * 2
    assert all(r.new_engine and r.audit["processes"] == 1 for r in records)
    assert ["max_num_seqs", 4] in records[0].config["engine"]["flags"]

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlflow.db")
    experiment = client.get_experiment_by_name("optimize")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(children) == 2 and all("audit/send_lag_p99_s" in r.data.metrics for r in children)
    mean = sum(r.data.metrics["qps"] for r in children) / 2
    assert parent.data.metrics["qps"] == pytest.approx(mean)


def test_a_configuration_that_cannot_run_is_refused_with_the_reason(optimize: Run, simulated: list[str]) -> None:
    done = optimize([*simulated, "engine.oom_above_seqs=2", "+at.batch_size=4"], verb="optimize.measure")
    assert done.returncode == 1
    assert "cannot be measured: device_oom" in done.stderr


def record(number: int, **values: float) -> TrialRecord:
    estimates = {name: Estimate(value, value - 1, value + 1, 100, "s") for name, value in values.items()}
    return TrialRecord("s", number, Role.MEASUREMENT, {}, {}, {}, state=State.COMPLETED, estimates=estimates)


def test_repeats_are_combined_by_how_they_differ() -> None:
    result = combined([record(0, a=1.0, b=5.0), record(1, a=2.0), record(2, a=3.0, b=5.0)])
    assert list(result) == ["a"]  # b was not measured every time
    assert (result["a"].value, result["a"].n) == pytest.approx((2.0, 3))
    assert result["a"].high - result["a"].value == pytest.approx(4.303 / 3**0.5, rel=1e-3)  # t(0.975; 2) s / sqrt(3)


def test_one_repeat_keeps_its_own_interval() -> None:
    only = record(0, a=1.0)
    assert combined([only]) == only.estimates
    assert combined([]) == {}


def test_no_interval_of_a_mean_reaches_below_zero() -> None:
    assert combined([record(0, a=1.0), record(1, a=9.0)])["a"].low == 0.0


def test_the_report_quotes_why_measurements_were_repeated_and_what_disturbed_the_last(tmp_path: Path) -> None:
    rig, measured = Rig(tmp_path), record(0, qps=10.0)
    rig.telemetry = ScriptedTelemetry(rig.clock, {"other_cores": 0.5})
    measured.conclude(rig.evaluate(record=measured))
    measured.config["deploy_command"] = "vllm serve m"
    text = report(rig.plan, [measured])
    busy = "other programs used 50% of the processors"
    assert f"machine: {busy}" in text and f"rejected: {busy}" in text
    assert text.endswith("deploy: vllm serve m")
