"""The metric keys of MLflow runs."""

from __future__ import annotations

from objectives import Estimate
from optimize.ledger import TrialRecord
from optimize.tracking.metric_keys import figures_of, in_time


def _record(**fields: object) -> TrialRecord:
    base = {"study": "s", "number": 1, "role": "search", "params": {}, "config": {}, "signature": {}}
    return TrialRecord(**{**base, **fields})  # type: ignore[arg-type]


def test_every_number_has_one_key() -> None:
    record = _record(
        estimates={"qps": Estimate(9.0, 8.0, 10.0, 90, "1/s")},
        seconds={"window": 5.0},
        audit={"sent": 90, "asked": None},
    )
    assert figures_of(record) == {
        "qps": 9.0, "interval/qps.low": 8.0, "interval/qps.high": 10.0, "seconds/window": 5.0, "audit/sent": 90.0,
    }  # fmt: skip


def test_series_have_their_sampling_times_and_distinct_steps() -> None:
    record = _record(ended_at=1000.0, seconds={"warmup": 4.0, "window": 5.0, "drain": 1.0, "engine_start": 30.0})
    series = in_time({"cpu_cores": [(0.5, 1.0), (1.0, 2.0)], "requests_running": [(0.5, 4.0)]}, record)
    assert series["system/cpu_cores"] == [(990.5, 500, 1.0), (991.0, 1000, 2.0)]
    assert series["load/requests_running"] == [(990.5, 500, 4.0)]
