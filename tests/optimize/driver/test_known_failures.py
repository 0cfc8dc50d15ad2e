"""What a study has seen fail is not started again."""

from dataclasses import asdict
from pathlib import Path

from optimize.driver.known_failures import KnownFailures
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State

ENGINE, OTHER = EngineConfig("m", "fp16", (("max_num_seqs", 4),)), EngineConfig("m", "fp16", (("max_num_seqs", 8),))


def record(config: TrialConfig, state: str, reason: str, seconds: dict[str, float]) -> TrialRecord:
    described = {**asdict(config), "engine_key": config.engine.key}
    record = TrialRecord("s", 3, Role.SEARCH, {}, described, {}, state=State(state), reason=reason, seconds=seconds)
    return TrialRecord.from_json(record.to_json())  # as a resumed study would read it


def test_an_engine_that_did_not_start_is_known_for_every_request() -> None:
    failed = record(TrialConfig(ENGINE, RequestConfig(1)), "infeasible", "refused: no such flag", {"total": 1.0})
    failures = KnownFailures([failed])
    for beams in (1, 2):
        result = failures.find(TrialConfig(ENGINE, RequestConfig(beams)))
        assert result is not None and result.kind == "refused"
        assert "trial 3" in result.reason and "no such flag" in result.reason
    assert failures.find(TrialConfig(OTHER, RequestConfig(1))) is None


def test_a_failure_under_load_is_known_for_its_request_only() -> None:
    seconds = {"engine_start": 2.0, "total": 20.0}
    failures = KnownFailures(
        [record(TrialConfig(ENGINE, RequestConfig(4)), "infeasible", "too_slow: 1 answer", seconds)]
    )
    assert failures.find(TrialConfig(ENGINE, RequestConfig(4))) is not None
    assert failures.find(TrialConfig(ENGINE, RequestConfig(1))) is None


def test_a_trial_that_was_not_started_proves_nothing_about_other_requests() -> None:
    seconds = {"engine_start": 2.0, "total": 20.0}
    config = TrialConfig(ENGINE, RequestConfig(4))
    failures = KnownFailures([record(config, "infeasible", "too_slow: 1 answer", seconds)])
    spared = failures.find(config)
    assert spared is not None
    failures.add(record(config, "infeasible", f"{spared.kind}: {spared.reason}", {}))
    assert failures.find(TrialConfig(ENGINE, RequestConfig(1))) is None


def test_measured_failed_and_unmeasurable_trials_are_not_failures_of_the_configuration(tmp_path: Path) -> None:
    config = TrialConfig(ENGINE, RequestConfig(1))
    trials = [
        record(config, "completed", "", {"total": 1.0}),
        record(config, "failed", "port taken", {"total": 1.0}),
        record(config, "infeasible", "bleu could not be measured", {"total": 1.0}),
    ]
    assert KnownFailures(trials).find(config) is None


def test_a_checkpoint_without_a_kernel_is_known_for_every_engine_of_it() -> None:
    reason = (
        "refused: engine exited during start: ValueError: Failed to find a kernel that can implement the WNA16 layer"
    )
    failures = KnownFailures([record(TrialConfig(ENGINE, RequestConfig(1)), "infeasible", reason, {"total": 1.0})])
    result = failures.find(TrialConfig(OTHER, RequestConfig(2)))
    assert result is not None and result.kind == "refused" and "trial 3" in result.reason
    elsewhere = EngineConfig("another/checkpoint", "int4", ENGINE.flags)
    assert failures.find(TrialConfig(elsewhere, RequestConfig(1))) is None
    other_type = EngineConfig("m", "fp16", (*ENGINE.flags, ("dtype", "bfloat16")))
    assert failures.find(TrialConfig(other_type, RequestConfig(1))) is None, "another type may have another kernel"


def test_a_kernel_missed_at_the_first_answer_is_known_for_every_engine_and_study() -> None:
    seconds = {"engine_start": 2.0, "total": 4.0}
    missed = "AttributeError: '_OpNamespace' '_C' object has no attribute 'cpu_gemm_wna16'"
    reason = f"crash: engine ended during load: {missed}"
    failed = record(TrialConfig(ENGINE, RequestConfig(1)), "infeasible", reason, seconds)
    for failures in (KnownFailures([failed]), KnownFailures([], [failed])):
        assert failures.find(TrialConfig(OTHER, RequestConfig(2))) is not None
        assert failures.find(TrialConfig(EngineConfig("another", "fp16", ENGINE.flags), RequestConfig(1))) is None


def test_other_failures_under_load_prove_nothing_about_other_studies() -> None:
    seconds = {"engine_start": 2.0, "total": 20.0}
    failed = record(TrialConfig(ENGINE, RequestConfig(1)), "infeasible", "crash: engine ended during load", seconds)
    assert KnownFailures([], [failed]).find(TrialConfig(ENGINE, RequestConfig(1))) is None


def test_passing_trouble_of_a_gpu_that_was_taken_for_a_refusal_is_tried_again() -> None:
    config = TrialConfig(ENGINE, RequestConfig(1))
    reason = (
        "refused: engine exited with code 1 during start: ValueError: Free memory on device cuda:0 (41.3/79.1 GiB) on "
        "startup is less than desired GPU memory utilization (0.92, 72.77 GiB)."
    )
    assert KnownFailures([record(config, "infeasible", reason, {"total": 1.0})]).find(config) is None
