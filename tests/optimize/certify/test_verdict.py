from optimize.certify.results import FaultResult
from optimize.certify.verdict import judge, judge_stress
from optimize.config.certify import Certify


def run(repeat: int = 0, error: str = "", **figures: float) -> FaultResult:
    return FaultResult("kill", False, repeat, {"lost": 0, "orphans": 0, "restarts": 1, **figures}, error=error)


def test_a_fault_that_every_repetition_survived_is_certified_with_its_figures() -> None:
    verdict = judge([run(k, recovery_s=2.0 + k / 10) for k in range(3)], Certify())
    assert verdict.certified and "2.10 (1.85–2.35) s" in verdict.why


def test_one_repetition_without_recovery_prevents_certification() -> None:
    verdict = judge([run(0, recovery_s=2.0), run(1)], Certify())
    assert verdict.certified is False and "in 1 of 2 repetitions" in verdict.why


def test_orphans_and_a_second_death_prevent_certification() -> None:
    assert "left behind" in judge([run(recovery_s=1.0, orphans=1)], Certify()).why
    assert "died again" in judge([run(recovery_s=1.0, restarts=2)], Certify()).why


def test_a_fault_that_the_system_does_not_permit_is_not_tested() -> None:
    verdict = judge([run(error="not possible here: no control groups")], Certify())
    assert verdict.certified is None and "no control groups" in verdict.in_words()


def stress(**figures: float) -> FaultResult:
    return FaultResult("stress", False, 0, {"sustained_per_s": 50.0, "restarts": 0, **figures})


def test_a_target_rate_that_breaks_is_not_certified_and_the_sustained_rate_is_given() -> None:
    verdict = judge_stress([stress(breaking_per_s=120.0, recovery_s=20.0)], Certify())
    assert verdict.certified is False
    assert "1000 requests/s not sustained" in verdict.why and "sustains 50.0 requests/s" in verdict.why


def test_a_sustained_target_rate_is_certified() -> None:
    assert judge_stress([stress(recovery_s=0.0)], Certify()).certified


def test_figures_of_a_client_that_failed_its_audit_certify_nothing() -> None:
    doubtful = stress(recovery_s=0.0)
    doubtful.doubts = ["sent late"]
    assert judge_stress([doubtful], Certify()).certified is False
