"""The replay of autoscalers: a replica against formulas, the control loop's rules one by one, and one short replay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from benchmarks.autoscaling import replayed, rules_for, scaling_for
from benchmarks.control_loop import CpuRule, Limits, QueueRule, RateRule
from benchmarks.fleet import Outcome, ramp, requests_of
from benchmarks.replicas import SEQUENCES, STEP_S, TOKEN_S, Reading, Replica, Request
from objectives import Estimate
from optimize.deploy.autoscaling import KEDA, autoscaling_files

CAPACITY = Estimate(4.4, 4.2, 4.6, 1, "1/s")
SCALING = scaling_for(CAPACITY)


def written() -> dict[str, Any]:
    return yaml.safe_load(autoscaling_files("vllm-chat", "chat", SCALING)[KEDA])  # type: ignore[no-any-return]


def history(*counts: tuple[int, int, int]) -> list[Reading]:
    """Readings every 15 s of (ended, running, waiting)."""
    return [Reading(15.0 * k, *some, busy_s=15.0 * k, tokens=0.0) for k, some in enumerate(counts)]


# A replica


def test_a_lone_request_gets_a_token_per_step() -> None:
    replica, request = Replica(0.0), Request(1.0, 100.0)
    replica.send(request)
    replica.advance(100.0)
    assert request.ttft_s == 0 and request.tpot_s == pytest.approx(STEP_S + TOKEN_S)
    assert replica.read(100.0).busy_s == pytest.approx(100 * (STEP_S + TOKEN_S))


def test_a_full_batch_keeps_others_waiting_and_is_slower_for_each() -> None:
    replica, requests = Replica(0.0), [Request(0.0, 100.0) for _ in range(SEQUENCES + 1)]
    for request in requests:
        replica.send(request)
    assert (replica.read(0.0).running, replica.read(0.0).waiting) == (SEQUENCES, 1)
    replica.advance(100.0)
    full_s = STEP_S + TOKEN_S * SEQUENCES
    assert requests[0].tpot_s == pytest.approx(full_s) and requests[-1].ttft_s == pytest.approx(100 * full_s)
    assert replica.read(100.0).tokens == pytest.approx(100 * len(requests))


# Rules


def test_the_rule_is_the_written_one() -> None:
    rule = RateRule.of(written())
    assert rule.threshold_per_s == 2.94 and (rule.limits.least, rule.limits.most) == (1, SCALING.replicas)
    assert (rule.window_s, rule.work_off_s, rule.limits.hold_s) == (60.0, 135.0, 405)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["triggers"][0]["metadata"].update(query="sum(up)"),
        lambda spec: spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"].update(
            selectPolicy="Min"
        ),
    ],
)
def test_a_manifest_that_the_loop_does_not_follow_is_refused(change: Any) -> None:
    manifest = written()
    change(manifest["spec"])
    with pytest.raises(ValueError, match="not the query of a bundle|scales up at once"):
        RateRule.of(manifest)


def test_the_reading_is_what_ends_and_what_piles_up() -> None:
    steady = history((0, 8, 0), (30, 8, 0), (60, 8, 0), (90, 8, 0))
    piling = history((0, 0, 0), (30, 15, 15), (60, 30, 30), (90, 45, 45))
    rule = RateRule.of(written())
    assert rule.reading([steady]) == pytest.approx(2.0)
    assert rule.reading([steady, piling]) == pytest.approx(2 + 2 + 1 + 1 + 45 / 135)


def test_a_tenth_more_than_the_target_adds_no_replica_and_a_tenth_and_a_bit_does() -> None:
    rule = QueueRule(10.0, Limits(1, 9))
    assert rule.replicas(15.0, 2, [history((0, 0, 11)), history((0, 0, 10))]) == 2
    assert rule.replicas(30.0, 2, [history((0, 0, 11)), history((0, 0, 12))]) == 3


def test_replicas_double_at_most_and_are_removed_by_the_largest_need_of_the_window() -> None:
    limits = Limits(1, 30, hold_s=60.0)
    assert [limits.bounded(0.0, 1, 20), limits.bounded(15.0, 6, 20), limits.bounded(30.0, 12, 40)] == [5, 12, 24]
    assert [limits.bounded(at_s, 24, 3) for at_s in (45.0, 75.0)] == [24, 24]
    assert limits.bounded(91.0, 24, 3) == 3


def test_pods_that_do_not_serve_yet_count_as_idle_cpu() -> None:
    rule = CpuRule(0.6, Limits(1, 9))
    busy = [history((0, 1, 0), (9, 1, 0), (9, 1, 0))]
    assert rule.replicas(30.0, 1, busy) == 2  # 100 % over 60 %
    assert rule.replicas(45.0, 2, busy) == 2  # 50 % over both


# A replay


def _replayed(title: str) -> Outcome:
    return replayed(rules_for(SCALING)[title], SCALING, ramp(300.0), 2400.0, 1)


def test_the_written_rule_keeps_the_objective_on_a_rise_with_fewer_replicas_than_for_the_peak() -> None:
    rule, peak = _replayed("keda.yaml of the bundle"), _replayed("no autoscaler, replicas for the peak")
    guess = _replayed("5 waiting requests per replica")
    assert rule.share > 0.98 and peak.share > 0.99 and guess.share < rule.share
    assert rule.replica_hours < 0.85 * peak.replica_hours
    assert rule.serving[0] == math.ceil(4 / SCALING.per_replica_per_s) and rule.most <= SCALING.replicas_max


def test_arrivals_follow_the_load() -> None:
    load = ramp(60.0)
    times = [r.due_s for r in requests_of(load, 1600.0, 3)]
    before, during = (sum(a <= t < a + 300 for t in times) / 300 for a in (0, 1300))
    assert before == pytest.approx(4, rel=0.15) and during == pytest.approx(16, rel=0.1)
