"""Measurements that the guard rejects, in virtual time: repeated, flagged, or given up with what disturbed them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from optimize.config.measuring import Guard
from optimize.decision.constraints import Limit
from optimize.errors import FailureKind
from optimize.load.arrivals import Constant
from optimize.outcome import Completed, Failed, Infeasible, Role
from optimize.testing.scripted_engine import ScriptedTelemetry
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, ScriptedRequest
from tests.optimize.evaluation.scripted import Rig, steady, trial

BUSY = {"other_cores": 0.5}


def test_a_disturbed_window_is_measured_again_and_flagged_if_it_stays_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.telemetry = ScriptedTelemetry(rig.clock, BUSY)
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Completed)
    (repeat,), (flag,) = evaluation.repeats, evaluation.disturbances
    assert repeat == flag == "other programs used 50% of the processors (load.guard.other_cores_max=0.12)"
    assert evaluation.seconds["repeated"] > 4.0 and "measuring again" in rig.phases
    assert rig.engines.engines[0].resets == 3  # for the trial, after the first answers, before the repeat


def test_a_window_that_is_disturbed_once_is_measured_again_and_not_flagged(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    busy, quiet = ScriptedTelemetry(rig.clock, BUSY), ScriptedTelemetry(rig.clock)
    windows = iter((busy, quiet))
    rig.telemetry = cast(Any, lambda *_: next(windows))
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Completed)
    assert len(evaluation.repeats) == 1 and evaluation.disturbances == []


def test_without_repeats_a_disturbed_window_is_flagged_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, guard=Guard(repeats=0))
    rig.telemetry = ScriptedTelemetry(rig.clock, BUSY)
    evaluation = rig.evaluate()
    assert len(evaluation.disturbances) == 1 and evaluation.repeats == [] and "repeated" not in evaluation.seconds


def test_a_client_that_sends_late_gives_no_figure_and_its_audit_is_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.clients = ScriptedClients(rig.clock, steady, send_lag_s=0.05, cpu_share=0.3)
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Failed)
    assert "the client was too slow for valid figures: requests were sent" in evaluation.outcome.reason
    assert evaluation.audit["send_lag_p99_s"] == pytest.approx(0.05) and len(evaluation.repeats) == 1
    assert rig.clients.size == 1  # more clients would not help idle ones


def test_busy_clients_get_more_processes_for_the_repeat(tmp_path: Path) -> None:
    rig = Rig(tmp_path, load={"clients_max": 2})
    rig.clients = ScriptedClients(rig.clock, steady, cpu_share=0.95)
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Failed) and "a client process used 95% of a core" in evaluation.repeats[0]
    assert rig.clients.size == evaluation.audit["processes"] == 2


def test_a_load_beyond_what_the_engine_serves_never_settles(tmp_path: Path) -> None:
    rig = Rig(tmp_path, _queue(lambda load, number: 0.05), arrivals=Constant(40.0), load={"warmup_max_s": 2.0})
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Infeasible) and evaluation.outcome.kind is FailureKind.UNSETTLED
    assert "this load does not settle; in phase 'measuring'; lower the rate" in evaluation.outcome.reason
    assert len(evaluation.repeats) == 1


def _queue(service_s: Callable[[int, int], float]) -> Callable[[ScriptedRequest], ScriptedAnswer]:
    """A server of one request at a time; `service_s` gets the number of the load, from 1, and of the request in it."""
    load, free_at = 0, 0.0

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        nonlocal load, free_at
        if request.number == 0:
            free_at = request.at
            load += request.max_tokens > 4  # the first answers are shorter
        free_at = max(free_at, request.at) + service_s(load, request.number)
        return ScriptedAnswer(free_at - request.at)

    return server


@pytest.mark.parametrize(("confirms", "unsettled", "loads"), [(None, 1, 2), (None, 2, None), (4, 3, 4), (4, 4, None)])
def test_a_candidate_that_settled_before_is_given_up_later(
    confirms: int | None, unsettled: int, loads: int | None, tmp_path: Path
) -> None:
    """`loads`: how many it takes until one is accepted; None where none is."""
    server = _queue(lambda load, number: 0.05 if load <= unsettled else 0.01)
    rig = Rig(tmp_path, server, arrivals=Constant(40.0), load={"warmup_max_s": 2.0})
    evaluation = rig.evaluate(record=trial(confirms=confirms))
    if loads is None:
        assert isinstance(evaluation.outcome, Infeasible) and evaluation.outcome.kind is FailureKind.UNSETTLED
    else:
        assert isinstance(evaluation.outcome, Completed)
        assert rig.phases.count("measuring") == loads and rig.phases.count("measuring again") == loads - 1
        assert len(evaluation.repeats) == unsettled and not evaluation.disturbances


@pytest.mark.parametrize("confirms", [None, 4])
@pytest.mark.parametrize("drifts", [1, 2, 9])
def test_a_window_whose_speed_drifts_is_measured_again_once_and_flagged_if_it_stays_so(
    confirms: int | None, drifts: int, tmp_path: Path
) -> None:
    server = _queue(lambda load, number: 0.01 + (0.0005 * number if load <= drifts else 0.0))
    rig = Rig(tmp_path, server, load={"warmup_max_s": 3.0, "window_requests": 90})
    evaluation = rig.evaluate(record=trial(confirms=confirms))
    assert isinstance(evaluation.outcome, Completed) and rig.phases.count("measuring") == 2
    (repeat,) = evaluation.repeats
    assert repeat.startswith("mean latency went from")
    assert len(evaluation.disturbances) == (0 if drifts == 1 else 1)


def test_a_baseline_of_twenty_seconds_an_answer_on_a_busy_machine_is_measured_and_flagged(tmp_path: Path) -> None:
    rig = Rig(tmp_path, lambda _: ScriptedAnswer(20.0), load={"window_requests": 40, "window_max_s": None})
    rig.limits = [Limit("p99_latency_s", True, 2.0, False)]
    rig.telemetry = ScriptedTelemetry(rig.clock, BUSY)
    evaluation = rig.evaluate(record=trial(baseline=True, role=Role.BASELINE))
    assert isinstance(evaluation.outcome, Completed) and len(evaluation.disturbances) == 1
    assert evaluation.pace == {
        "answer_s": pytest.approx(20.0),
        "window_s": pytest.approx(120.0, abs=1.0),
        "answers": 24,
        "requests": 40,
        "least_s": 4.0,
        "disturbed": True,
    }
    later = trial(1, pace=dict(evaluation.pace))
    assert isinstance(rig.evaluate(record=later).outcome, Completed)  # although no answer comes within 6 s


def test_a_trial_that_is_given_up_says_what_disturbed_it_where_and_what_to_do(tmp_path: Path) -> None:
    rig = Rig(tmp_path, lambda request: ScriptedAnswer(math.inf if request.max_tokens > 4 else 0.1))
    rig.telemetry = ScriptedTelemetry(rig.clock, BUSY)
    slow = trial(pace={"answer_s": 0.4, "window_s": 4.0, "answers": 20})
    outcome = rig.evaluate(record=slow).outcome
    assert isinstance(outcome, Failed) and outcome.disturbed
    assert "in phase 'warm-up'; other programs used 50% of the processors" in outcome.reason
    assert outcome.reason.endswith(
        "end the other programs, or wait until they have ended, and run the same command again"
    )
    rig.telemetry = ScriptedTelemetry(rig.clock)
    outcome = rig.evaluate(record=slow).outcome
    assert isinstance(outcome, Infeasible) and outcome.kind is FailureKind.TOO_SLOW  # on a quiet machine it is a fact


def test_clients_of_the_baseline_that_a_busy_machine_slows_are_flagged(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.clients = ScriptedClients(rig.clock, steady, send_lag_s=0.05, cpu_share=0.3)
    rig.telemetry = ScriptedTelemetry(rig.clock, BUSY)
    evaluation = rig.evaluate(record=trial(baseline=True))
    assert isinstance(evaluation.outcome, Completed)
    assert [text.split(" (")[0].split(" with")[0] for text in evaluation.disturbances][0].startswith("other programs")
    assert any("requests were sent" in text for text in evaluation.disturbances)
    assert evaluation.pace["disturbed"] is True
