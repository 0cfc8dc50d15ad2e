"""A search for a capacity in place of one load, in virtual time: what it finds, what it notes, when it is given up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from objectives import Direction, Estimate, Objective, RequestRecord
from objectives.capacity import CapacityRate, CapacityUsers
from objectives.latency import LatencyQuantile
from objectives.throughput import RequestRate
from optimize.capacity import Capacity, Kind, Unit
from optimize.config.capacity import CapacitySearch, ServiceLevel
from optimize.config.measuring import Guard
from optimize.decision.candidate import Candidate
from optimize.decision.futility import Futility
from optimize.evaluation.capacity import figure_of
from optimize.load.arrivals import Arrivals, ClosedLoop, Poisson
from optimize.load.audit import Audit
from optimize.load.prober import ProbeLoad
from optimize.outcome import Completed, Evaluation, Infeasible
from optimize.testing.scripted_engine import ScriptedTelemetry
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, ScriptedRequest
from tests.optimize.evaluation.scripted import Rig

METRICS: dict[str, Objective] = {
    "capacity_per_s": CapacityRate(), "capacity_users": CapacityUsers(), "p99_latency_s": LatencyQuantile(0.99),
    "qps": RequestRate(),
}  # fmt: skip
LIMIT_S, QUANTILE, SERVED_PER_S = 0.1, 0.9, 100.0
TRUTH_PER_S = SERVED_PER_S + math.log(1 - QUANTILE) / LIMIT_S
"""Of a single server with exponential services: a share of exp(-(served - arriving) x limit) waits for longer."""


class Queue:
    """A single server, idle at the start of every load.

    Args:
        service_s: Seconds that a request takes, drawn anew each time.
    """

    def __init__(self, service_s: Callable[[], float]) -> None:
        self._service_s, self._free_at = service_s, 0.0

    def __call__(self, request: ScriptedRequest) -> ScriptedAnswer:
        start = request.at if request.number == 0 else max(self._free_at, request.at)
        self._free_at = start + self._service_s()
        return ScriptedAnswer(self._free_at - request.at)


def exponential(per_s: float = SERVED_PER_S) -> Queue:
    rng = random.Random(1)
    return Queue(lambda: max(1e-4, rng.expovariate(per_s)))


def rig(tmp_path: Path, server: Queue, arrivals: Arrivals | None = None, **search: float) -> Rig:
    settings = CapacitySearch(search=True, highest=500.0, **{"load_max_s": 40.0, "precision": 0.15, **search})
    case = Rig(tmp_path, server, METRICS, arrivals or Poisson(10.0), load={"capacity": settings})
    case.plan.config.slo = ServiceLevel(latency_max_s=LIMIT_S, quantile=QUANTILE)
    return case


def figures(evaluation: Evaluation) -> dict[str, Estimate]:
    assert isinstance(evaluation.outcome, Completed), evaluation.outcome
    return dict(evaluation.outcome.estimates)


def test_the_capacity_of_a_queue_is_found_with_its_interval_and_the_probes_are_noted(tmp_path: Path) -> None:
    evaluation = rig(tmp_path, exponential()).evaluate()
    estimate = figures(evaluation)["capacity_per_s"]
    assert estimate.low < TRUTH_PER_S < estimate.high and estimate.value == pytest.approx(TRUTH_PER_S, rel=0.25)
    capacity = Capacity.from_dict(evaluation.capacity)
    assert (capacity.kind, capacity.binds) == (Kind.BRACKETED, "latency_s")
    assert len(capacity.probes) >= 4 and capacity.load_s <= 42.0
    assert evaluation.capacity["slo"]["limits"] == [{"quantity": "latency_s", "most_s": 0.1, "share": 0.9}]
    assert "capacity_users" not in figures(evaluation)


def test_other_figures_are_those_at_the_capacity(tmp_path: Path) -> None:
    evaluation = rig(tmp_path, exponential()).evaluate()
    estimates = figures(evaluation)
    assert 0.7 * TRUTH_PER_S <= estimates["qps"].value <= 1.1 * estimates["capacity_per_s"].value
    assert estimates["p99_latency_s"].value <= 2 * LIMIT_S
    assert list(evaluation.seconds) == ["engine_start", "first_answer", "warmup", "window", "drain", "scoring", "total"]
    assert evaluation.audit["sent"] > 0 and evaluation.pace["answer_s"] > 0
    assert evaluation.pace["answers"] == 20  # as many as a window needs: no note says that a window had too few


def test_users_are_counted_in_a_closed_loop(tmp_path: Path) -> None:
    """Each of n users waits for n services of a hundredth of a second: ten are within a tenth."""
    evaluation = rig(tmp_path, Queue(lambda: 0.00999), ClosedLoop(users=1)).evaluate()
    assert figures(evaluation)["capacity_users"].value == pytest.approx(10, abs=1)
    assert "capacity_per_s" not in figures(evaluation)


def test_an_engine_that_carries_nothing_has_the_capacity_zero(tmp_path: Path) -> None:
    evaluation = rig(tmp_path, Queue(lambda: 0.2), load_max_s=200.0).evaluate()
    assert figures(evaluation)["capacity_per_s"].value == 0
    assert evaluation.capacity["kind"] == "zero"


def test_each_probe_begins_on_an_idle_engine_with_empty_caches(tmp_path: Path) -> None:
    case = rig(tmp_path, exponential())
    probes = len(case.evaluate().capacity["probes"])
    assert case.engines.engines[0].resets == 1 + probes  # the lease's
    requests = case.ledger.read_requests(0)
    assert sum(later.due_s - earlier.done_s > 0 for earlier, later in zip(requests, requests[1:], strict=False)) >= 3


# --- given up ------------------------------------------------------------------------------------------------------


def futility_of(figures: dict[str, Estimate], **directions: Direction) -> Futility:
    best = Candidate(3, {}, figures, True)
    return Futility([], {"capacity_per_s": Direction.MAXIMIZE, **directions}, [best], {})


BEST = {"capacity_per_s": Estimate(260.0, 255.0, 265.0, 900, "1/s"), "bleu": Estimate(50.0, 49.0, 51.0, 60, "BLEU")}


def test_a_trial_far_below_the_best_is_given_up_after_one_probe(tmp_path: Path) -> None:
    evaluation = rig(tmp_path, exponential()).evaluate(futility=futility_of(BEST))
    assert evaluation.cut_short == "trial 3 is better in every objective"
    assert [probe["level"] for probe in evaluation.capacity["probes"]] == [255.0]
    estimate = figures(evaluation)["capacity_per_s"]
    assert (estimate.low, estimate.high) == (0.0, 255.0)
    assert estimate.value == pytest.approx(
        SERVED_PER_S, rel=0.2
    )  # what it does at its limit, not the level that was tried
    assert evaluation.seconds["total"] < 30


@pytest.mark.parametrize(("limit_s", "users"), [(0.1, 10), (None, 40)])
def test_users_who_are_given_up_are_those_whom_a_saturated_engine_answers_in_time(
    limit_s: float | None, users: int
) -> None:
    """Forty users of whom a hundred a second are answered: ten of them wait for a tenth of a second."""
    capacity = Capacity(Unit.USERS, 40.0, 0.0, 40.0, Kind.AT_MOST, "latency_s", ())
    times_s = [number / 100 for number in range(-40, 960)]
    records = [RequestRecord(0, at_s, at_s, None, at_s + 0.4, 1, 1, "") for at_s in times_s]
    last = ProbeLoad(40.0, records, 0.0, 10.0, 10.5, Audit(0.0, 0.0, 0.0, 0.4, None, 1000, 0.1, 1), None)
    figure = figure_of(capacity, last, limit_s)
    assert figure.value == pytest.approx(users, rel=0.02) and (figure.low, figure.high) == (0.0, 40.0)


def test_a_trial_that_may_be_better_in_something_else_is_searched_to_its_end(tmp_path: Path) -> None:
    evaluation = rig(tmp_path, exponential()).evaluate(futility=futility_of(BEST, bleu=Direction.MAXIMIZE))
    assert (evaluation.cut_short, evaluation.capacity["kind"]) == ("", "bracketed")


def test_a_trial_better_than_the_best_is_searched_to_its_end(tmp_path: Path) -> None:
    low = {"capacity_per_s": Estimate(25.0, 24.0, 26.0, 900, "1/s")}
    evaluation = rig(tmp_path, exponential()).evaluate(futility=futility_of(low))
    assert evaluation.cut_short == "" and evaluation.capacity["probes"][0]["level"] == 24.0
    assert figures(evaluation)["capacity_per_s"].low <= TRUTH_PER_S <= figures(evaluation)["capacity_per_s"].high


# --- disturbed, or not to be measured -------------------------------------------------------------------------------


def test_a_disturbed_probe_is_repeated_and_the_reason_noted(tmp_path: Path) -> None:
    case = rig(tmp_path, Queue(lambda: 0.2))
    case.telemetry = ScriptedTelemetry(case.clock, {"other_cores": 0.5})
    evaluation = case.evaluate()
    probes = len(evaluation.capacity["probes"])
    assert case.engines.engines[0].resets == 1 + (1 + Guard().repeats) * probes
    assert len(evaluation.repeats) == 1 and "other programs used 50%" in evaluation.repeats[0]
    assert "other programs used 50%" in evaluation.disturbances[0]


def test_clients_that_are_too_slow_are_doubled_and_the_probe_repeated(tmp_path: Path) -> None:
    case = rig(tmp_path, Queue(lambda: 0.2))
    case.clients = ScriptedClients(case.clock, Queue(lambda: 0.2), cpu_share=0.95)
    case.plan.config.load.clients_max = 2
    evaluation = case.evaluate()
    assert case.clients.size == 2 and "a client process used 95% of a core" in evaluation.repeats[0]
    assert case.engines.engines[0].resets == 1 + 1 + len(evaluation.capacity["probes"])


def test_an_engine_that_dies_in_a_probe_is_infeasible(tmp_path: Path) -> None:
    case = rig(tmp_path, exponential())
    case.engines.next_dies_at = case.clock.now() + 6.0
    outcome = case.evaluate().outcome
    assert isinstance(outcome, Infeasible) and "probing" in outcome.reason
