"""What other tools' reports say of the load that an engine carries."""

from __future__ import annotations

from typing import Any

from benchmarks.peer_searches import aiperf_answer, guidellm_answer


def _probe(streams: int, attainment: float | None, rate: float) -> dict[str, Any]:
    metrics = {"slo_attainment": attainment, "requests_per_second": {"successful": {"mean": rate}}}
    return {"config": {"strategy": {"streams": streams}}, "metrics": metrics}


def test_guidellms_answer_is_the_highest_probe_that_keeps_the_slo() -> None:
    report = {
        "benchmarks": [_probe(4, 1.0, 9.0), _probe(64, 0.5, 40.0), _probe(32, 0.995, 38.5), _probe(48, None, 1.0)]
    }
    assert guidellm_answer(report, 0.99) == "32 concurrent requests (38.5 requests/s), not 48; 4 probes"
    assert guidellm_answer(report, 0.9999).startswith("4 concurrent requests")
    assert guidellm_answer({"benchmarks": [_probe(1, 0.2, 1.0)]}, 0.99) == "no number of concurrent requests of [1]"


def test_aiperfs_answer_is_the_boundary_of_its_history() -> None:
    boundary = {"feasible_max": {"value": 40}, "infeasible_min": {"value": 44}}
    history = {"boundary_summary": boundary, "iterations": [{}, {}], "convergence_reason": "precision_reached"}
    assert aiperf_answer(history) == "40 concurrent requests, not 44; 2 probes, precision_reached"
    nothing = history | {"boundary_summary": {"feasible_max": None, "infeasible_min": None}}
    assert aiperf_answer(nothing) == "no number of concurrent requests; 2 probes, precision_reached"
