"""Measurements that are not believed: measured again, flagged, refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from objectives import Estimate, Measurement
from optimize.config.measuring import Guard
from optimize.errors import EngineFailure
from optimize.evaluation.evaluator import Evaluator, _Notes, _Task, relative_half_width
from optimize.ledger import Ledger, TrialRecord
from optimize.load.audit import Audit
from optimize.outcome import Role
from tests.conftest import Run

AUDIT = Audit(0.0, 0.0, 0.0, 0.1, None, 100, 0.1, 1)


def only_record(out: Path) -> TrialRecord:
    (folder,) = (out / "studies").iterdir()
    (record,) = Ledger(folder).records()
    return record


def test_a_disturbed_window_is_measured_again_and_flagged_if_it_stays_so(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    guard = ["load.guard.repeats=1", "load.guard.other_cores_max=-1"]  # whatever others use is too much
    done = optimize([*simulated, *guard, "repeats=1"], verb="optimize.measure")
    assert done.returncode == 0, done.stderr
    record = only_record(tmp_path / "out")
    assert record.state == "completed" and record.estimates
    (again,), (flag,) = record.repeated, record.disturbed
    assert again.startswith("other programs used") and flag.startswith("other programs used")
    assert record.seconds["repeated"] > 1.0
    assert "machine: other programs used" in done.stdout and "not believed: other programs used" in done.stdout


def test_a_client_that_is_not_good_enough_gives_no_figure(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    guard = ["load.guard.send_lag_p99_max_s=0", "load.guard.send_lag_share_max=0"]
    done = optimize([*simulated, *guard, "repeats=1"], verb="optimize.measure")
    assert done.returncode == 1 and "no repeat gave a measurement" in done.stderr
    record = only_record(tmp_path / "out")
    assert record.state == "failed" and record.estimates == {}
    assert "requests were sent" in record.reason and record.audit["send_lag_p99_s"] > 0


def test_a_load_beyond_what_the_engine_serves_never_settles(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    # One at a time, 14 words of 10 ms: seven per second, asked for forty.
    overload = ["load=poisson", "load.arrivals.rate_per_s=40", "engine.token_s=0.01", "+at.batch_size=1"]
    limits = ["load.warmup_max_s=1.5", "load.window_min_s=4", "load.drain_max_s=3", "load.guard.drift_p=0.001"]
    done = optimize([*simulated, *overload, *limits, "repeats=1"], verb="optimize.measure")
    assert done.returncode == 1
    assert "cannot be measured: unsettled: requests pile up" in done.stderr
    assert only_record(tmp_path / "out").state == "infeasible"


@pytest.mark.parametrize(("confirms", "unsettled", "loads"), [(None, 1, 2), (None, 2, None), (4, 3, 4), (4, 4, None)])
def test_what_settled_before_is_not_given_up_as_soon(
    confirms: int | None, unsettled: int, loads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`loads`: how many it takes until one is believed; None where none is."""
    record = TrialRecord("s", 1, Role.CONFIRMATION, {}, {}, {}, confirms=confirms)
    seen = [(None, "requests pile up")] * unsettled
    if loads is None:
        with pytest.raises(EngineFailure, match="requests pile up"):
            loads_made(record, seen, monkeypatch)
    else:
        count, notes = loads_made(record, seen, monkeypatch)
        assert count == loads
        assert notes.repeats == ["requests pile up"] * unsettled and not notes.disturbances


@pytest.mark.parametrize("confirms", [None, 4])
@pytest.mark.parametrize("drifts", [1, 2, 9])
def test_where_the_machine_drifts_it_is_measured_again_and_flagged(
    confirms: int | None, drifts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = TrialRecord("s", 1, Role.SEARCH, {}, {}, {}, confirms=confirms)
    count, notes = loads_made(record, [("latency went up", None)] * drifts, monkeypatch)
    assert count == 2
    assert notes.repeats == ["latency went up"]
    assert notes.disturbances == ([] if drifts == 1 else ["latency went up"])


def loads_made(
    record: TrialRecord, seen: Sequence[tuple[str | None, str | None]], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, _Notes]:
    """How many loads a measurement takes that may be repeated once, with drift and overload of the first of them."""
    nothing: Any = None
    plan: Any = SimpleNamespace(config=SimpleNamespace(load=SimpleNamespace(guard=Guard(repeats=1))))
    evaluator: Any = Evaluator(plan, nothing, nothing, nothing, phase=lambda _: None)
    ahead, made = iter(seen), []

    def load(*_: object) -> tuple[Any, Measurement]:
        made.append(1)
        drift, overload = next(ahead, (None, None))
        return SimpleNamespace(audit=AUDIT, drift=drift, overload=overload, cut_short=None), Measurement([], 0, 1, {})

    monkeypatch.setattr(Evaluator, "_load", load)
    lease: Any = SimpleNamespace(engine=SimpleNamespace(reset=lambda: None))
    notes = _Notes("")
    evaluator._measure(_Task(nothing, record, None, notes), lease)
    return len(made), notes


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"), [(10, 9, 12, 0.15), (0, 0, 0, 0.0), (0, 0, 1, math.inf), (5, 5, 5, 0.0)]
)
def test_precision_is_relative(value: float, low: float, high: float, expected: float) -> None:
    assert relative_half_width(Estimate(value, low, high, 10, "s")) == pytest.approx(expected)
