"""Interference: readings of the machine, and the limits beyond which they disturb a window."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from objectives import Measurement, RequestRecord
from optimize.config.measuring import Guard
from optimize.evaluation.interference import Machine, disturbances, read_counters


def measured(**series: float) -> Measurement:
    """A window in which each series stood at one value, and outside of which everything was busy."""
    samples = {name: [(0.5, 1.0), (2.0, value), (3.0, value), (9.0, 1.0)] for name, value in series.items()}
    return Measurement([], 1.0, 4.0, {}, samples)


@pytest.mark.parametrize(
    ("series", "limit"),
    [("steal", "steal_max"), ("other_cores", "other_cores_max"), ("throttled", "throttled_max"),
     ("gpu_slowed", "gpu_slowed_max")],
)  # fmt: skip
def test_more_than_the_guard_allows_is_a_disturbance(series: str, limit: str) -> None:
    allowed = getattr(Guard(), limit)
    assert disturbances(measured(**{series: allowed}), Guard()) == []
    (disturbance,) = disturbances(measured(**{series: allowed + 0.01}), Guard())
    assert f"load.guard.{limit}={allowed:g}" in disturbance


def test_a_reading_that_is_missing_disturbs_nothing() -> None:
    assert disturbances(measured(), Guard()) == []


def scripted(*readings: dict[str, float]) -> Machine:
    """A machine whose counters are read off this list; so many processors as this process may use."""
    ahead = iter(readings)
    return Machine(list, lambda cpus, pids: dict(next(ahead)))


def test_readings_are_shares_of_the_time_since_the_one_before() -> None:
    cores = len(os.sched_getaffinity(0))
    start = {"clock": 100.0, "busy": 50.0, "steal": 1.0, "own": 20.0, "throttled": 3.0}
    later = {"clock": 110.0, "busy": 50.0 + 6 * cores, "steal": 1.0 + cores, "own": 20.0 + 2 * cores, "throttled": 5.0}
    machine = scripted(start, later, {**later, "clock": 120.0})
    assert machine.sample() == pytest.approx({"steal": 0.1, "other_cores": 0.4, "throttled": 0.2})
    assert machine.sample() == pytest.approx({"steal": 0.0, "other_cores": 0.0, "throttled": 0.0})


def test_the_seconds_of_a_process_that_ended_are_nobody_elses() -> None:
    start = {"clock": 0.0, "busy": 50.0, "steal": 0.0, "own": 20.0}
    machine = scripted(start, {"clock": 10.0, "busy": 51.0, "steal": 0.0, "own": 5.0})
    assert 0 <= machine.sample()["other_cores"] <= 0.1


def test_counters_that_the_machine_does_not_report_are_left_out() -> None:
    assert scripted({"clock": 0.0}, {"clock": 10.0}).sample() == {}
    assert scripted({"clock": 5.0, "throttled": 0.0}, {"clock": 5.0, "throttled": 0.0}).sample() == {}  # no time passed


def test_the_work_of_a_process_is_counted_as_busy_and_as_own_where_it_is_ours() -> None:
    burn = "import time\nwhile time.process_time() < 1.5: pass\nprint(flush=True); input()"
    cpus = sorted(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        before = read_counters(cpus, [process.pid])
        process.stdout.readline()
        after = read_counters(cpus, [process.pid])
        process.communicate(b"\n")
    change = {name: after[name] - before[name] for name in ("clock", "busy", "own")}
    assert change["own"] > 1.2 and change["busy"] > 1.2  # it may have begun to work before it was looked at
    assert change["own"] <= change["clock"] + 0.1  # one processor's work


def test_requests_that_the_endpoint_throttled_are_a_disturbance() -> None:
    kinds = [None, "throttled", "server", "throttled"]
    records = [RequestRecord(0, 1.0 + i, 1.0 + i, None, 1.5 + i, 1, 1, "", kind) for i, kind in enumerate(kinds)]
    (line,) = disturbances(Measurement(records, 0.0, 9.0, {}), Guard())
    assert line.startswith("the endpoint throttled 2 of 4 requests") and "load.honour_retry_after=true" in line
