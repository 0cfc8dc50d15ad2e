"""What else the machine was doing."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from objectives import Measurement
from optimize.config.measuring import Guard
from optimize.evaluation.interference import Machine, disturbances


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
    (said,) = disturbances(measured(**{series: allowed + 0.01}), Guard())
    assert f"load.guard.{limit}={allowed:g}" in said


def test_what_is_not_known_disturbs_nothing() -> None:
    assert disturbances(measured(), Guard()) == []


def test_a_busy_process_of_somebody_else_shows_and_one_of_ours_does_not() -> None:
    burn = "import time\nwhile time.process_time() < 1.5: pass\nprint(flush=True); input()"
    pids: list[int] = []
    theirs, ours = Machine(list), Machine(lambda: pids)
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pids.append(process.pid)
        assert process.stdout is not None
        process.stdout.readline()
        core_seconds = (time.monotonic() - began) * (os.cpu_count() or 1)
        # Both see whatever else is going on; what is between them is the process.
        difference = theirs.sample()["other_cores"] - ours.sample()["other_cores"]
        process.communicate(b"\n")
    assert difference * core_seconds == pytest.approx(1.5, abs=0.5)
