"""Faults and stress on the simulated engine: real processes, really killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from optimize.certify import stress
from optimize.certify import testbed as testbeds
from optimize.certify.fault_run import run_fault
from optimize.certify.faults import FAULTS
from optimize.certify.stress import run_stress
from optimize.certify.verdict import judge, judge_stress
from optimize.config.compose import configuration
from optimize.serve.session import make_launcher
from optimize.study.target import choose


def quiet(line: str) -> None:
    """Takes the lines that are printed for a user."""


@pytest.fixture
def testbed(tmp_path: Path, workload_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[testbeds.Testbed]:
    monkeypatch.setattr(stress, "_WARM_S", 0.3)  # the simulated engine needs no warm-up
    config = configuration(
        [
            "+study=chat", "engine=simulated", "+at.batch_size=8", "workload=file", f"workload.path={workload_file}",
            f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "certify.mitigations=false",
            "certify.rate_per_s=20", "certify.normal_s=1", "certify.calm_s=0.5", "certify.window_s=0.5",
            "certify.tolerance=1000", "load.clients=1", "certify.stress_steps=[0.2]", "certify.stress_step_s=1",
            "certify.stress_per_s=1000", "certify.stress_ramp_s=2", "certify.stress_hold_s=0.5", "certify.capacity_s=1",
            "certify.stress_requests_max=200",
        ]
    )  # fmt: skip
    plan, target = choose(config, "certify-chat", quiet)
    with testbeds.Testbed(plan, target, lambda: make_launcher(config), tmp_path / "certify", quiet) as testbed:
        testbed.calibrate(testbeds.Calibration(capacity_per_s=50.0, fewest_blocks=3.0))
        yield testbed


def test_a_kill_is_detected_repaired_and_certified(testbed: testbeds.Testbed) -> None:
    result, records, series = run_fault(FAULTS["kill"], False, 0, testbed)
    assert result.error == "" and records and series
    assert result.figures["restarts"] == 1 and result.figures["orphans"] == 0
    assert result.figures["rate_per_s"] == 20
    assert result.figures["detection_s"] >= 0 and result.figures["down_s"] > 0
    assert "SIGKILL" in result.words["causes"] and result.words["how"] == "cold"
    assert judge([result], testbed.settings).certified


def test_the_capacity_of_an_engine_slower_than_its_measurement_is_that_of_its_first_answers(
    testbed: testbeds.Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbeds, "_CAPACITY_WARM_S", 0.0)
    testbed.settings = replace(testbed.settings, capacity_s=1e-6)
    with testbed.engine(testbed.setup(), "slow") as engine:
        assert testbed.capacity_per_s(engine.front.endpoint) > 0


@pytest.mark.slow
def test_a_stress_test_measures_curve_patterns_and_ramp(testbed: testbeds.Testbed) -> None:
    result, records, _ = run_stress(0, testbed)
    (step,) = result.tables["curve"]
    assert step["offered_per_s"] == pytest.approx(0.2 * result.figures["capacity_per_s"])
    assert len(result.tables["patterns"]) == 3 and [row["second"] for row in result.tables["ramp"]] == [0, 1]
    assert 0 < result.figures["requests"] <= len(records) and result.figures["orphans"] == 0
    assert {"peak_p99_s", "normal_p99_s", "waiting_max", "rate_per_s", "restarts"} <= set(result.figures)
    assert "then 0.0 s at" in result.words["ramp"] and "requests" in judge_stress([result], testbed.settings).why
