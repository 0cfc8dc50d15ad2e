"""Whoever is refused is told the whole reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimize.errors import EngineFailure, FailureKind, TransientFault
from optimize.evaluation.refusal import outcome_of, whole_reason
from optimize.load.pace import Pace
from optimize.outcome import Failed, Infeasible

LOG = "INFO 01-01 00:00:00 [x.py:1] loading\nValueError: first\nRuntimeError: the last thing that went wrong\n"
BUSY = "other programs used 73% of the processors (load.guard.other_cores_max=0.12)"


def test_a_reason_names_phase_disturbance_log_and_remedy() -> None:
    failure = EngineFailure(FailureKind.TOO_SLOW, "3 answers in 16 s of window")
    assert whole_reason(failure, "measuring", [BUSY], LOG) == (
        f"3 answers in 16 s of window; in phase 'measuring'; {BUSY}; the engine's log: RuntimeError: the last thing "
        "that went wrong; end the other programs, or wait until they have ended, and run the same command again"
    )


def test_a_line_that_the_error_quotes_is_not_repeated() -> None:
    failure = EngineFailure(FailureKind.REFUSED, "engine ended: ValueError: first", ("ValueError: first",))
    assert whole_reason(failure, "", (), LOG) == "engine ended: ValueError: first; change the setting that vLLM names"


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_has_a_remedy(kind: FailureKind) -> None:
    assert len(whole_reason(EngineFailure(kind, "x"), "p").split("; ")) == 3


@pytest.mark.parametrize("kind", FailureKind)
def test_only_what_a_disturbed_machine_may_have_slowed_is_no_fact_about_the_configuration(kind: FailureKind) -> None:
    failure = EngineFailure(kind, "x", ("evidence",))
    doubtful = kind in (FailureKind.TIMEOUT, FailureKind.TOO_SLOW)
    fact = Infeasible(kind, "whole", ("evidence",))
    assert outcome_of(failure, "whole") == fact
    failure.disturbances = (BUSY,)
    doubt = Failed("whole", disturbed=True) if doubtful else fact
    quiet_baseline = Pace(0.1, 1.0)
    assert outcome_of(failure, "whole") == outcome_of(failure, "whole", quiet_baseline) == doubt
    assert outcome_of(failure, "whole", replace(quiet_baseline, disturbed=True)) == fact  # too slow beside that one


def test_a_passing_fault_needs_no_remedy() -> None:
    assert whole_reason(TransientFault("port taken"), "starting the engine") == (
        "port taken; in phase 'starting the engine'"
    )
