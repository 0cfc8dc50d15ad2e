from optimize.certify.schedule import runs
from optimize.config.certify import SCENARIOS, Certify


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
