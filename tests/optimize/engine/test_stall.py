"""A start that works is not ended by a clock; one that stands still is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.process import ColdTree, free_port
from optimize.engine.stall import Effort, StallWatch, effort_of
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, FailureKind, TransientFault

LIMIT_S = 600.0
WEEK_S = 7 * 86400
MIB = 1 << 20


class Start:
    """A start on a clock of the test's, whose work the test says."""

    def __init__(self) -> None:
        self.now, self.effort, self.looks = 0.0, Effort(0, 0.0, 0), 0
        self.watch = StallWatch(LIMIT_S, self._look, lambda: self.now)

    def _look(self) -> Effort:
        self.looks += 1
        return self.effort

    def stalled_after(self, seconds: float, step_s: float = 5.0, **per_s: float) -> float | None:
        """When it counted as standing still within these seconds; None if never."""
        end = self.now + seconds
        while self.now < end:
            self.now += step_s
            grown = {name: getattr(self.effort, name) + rate * step_s for name, rate in per_s.items()}
            self.effort = self.effort._replace(**grown)
            if self.watch.stalled():
                return self.now
        return None


@pytest.mark.parametrize(
    "work",
    [{"log_lines": 0.01}, {"cpu_s": 0.015}, {"traffic_bytes": 10_000.0}],
    ids=["a line every 100 s", "starved by others", "a slow disk"],
)
def test_a_start_that_works_may_take_a_week(work: dict[str, float]) -> None:
    assert Start().stalled_after(WEEK_S, 60.0, **work) is None


@pytest.mark.parametrize(
    "work", [{}, {"cpu_s": 0.005}, {"traffic_bytes": 1000.0}], ids=["nothing", "polling", "heartbeats"]
)
def test_a_start_that_only_waits_is_ended_at_the_limit(work: dict[str, float]) -> None:
    ended = Start().stalled_after(3 * LIMIT_S, **work)
    assert ended is not None and LIMIT_S <= ended <= LIMIT_S + 10


def test_the_limit_counts_from_the_last_work() -> None:
    start = Start()
    assert start.stalled_after(900, cpu_s=1.0) is None
    assert start.stalled_after(2 * LIMIT_S) == 900 + LIMIT_S


def test_processes_are_looked_at_only_from_time_to_time() -> None:
    start = Start()
    start.stalled_after(100, step_s=0.1)
    assert start.looks <= 21


def test_who_says_again_and_again_that_it_waits_does_not_work(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = "INFO 11-28 12:11:{} [shm_broadcast.py:{}] No available shared memory broadcast block in {} seconds\n"
    log.write_text("".join(line.format(n, n, n) for n in range(10, 60)))
    assert effort_of([], log).log_lines == 1
    log.write_text(log.read_text() + "INFO Loading weights took 0.02 seconds\n")
    assert effort_of([], log).log_lines == 2
    assert effort_of([], tmp_path / "none").log_lines == 0


def test_the_work_of_processes_is_seen_and_of_those_that_they_outlived(tmp_path: Path) -> None:
    burn = "sum(range(3_000_000))"
    own = psutil.Process(os.getpid())
    before = effort_of([own], tmp_path / "log")
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", burn]) == 0
    after = effort_of([own], tmp_path / "log")
    assert after.cpu_s > before.cpu_s and after.traffic_bytes >= before.traffic_bytes


def _started(script: str, folder: Path) -> VllmEngine:
    """An engine whose server is a few lines of Python."""
    log = folder / "log"
    tree = ColdTree([sys.executable, "-S", "-c", script], dict(os.environ), log, grace_s=0)
    return VllmEngine(EngineConfig("m", "fp16"), tree, Endpoint(f"http://127.0.0.1:{free_port()}", "key", "m"), log)


def test_a_start_that_met_trouble_of_the_gpu_is_worth_another_try(tmp_path: Path) -> None:
    engine = _started("raise RuntimeError('No CUDA GPUs are available')", tmp_path)
    try:
        with pytest.raises(TransientFault, match=r"No CUDA GPUs are available; see whether nvidia-smi shows the GPU"):
            engine.wait_ready(stall_s=60.0)
    finally:
        engine.stop()


def test_the_failure_names_phase_limit_and_last_line(tmp_path: Path) -> None:
    script = "print('INFO [x.py:1] Starting to load model m...', flush=True); import time; time.sleep(60)"
    engine = _started(script, tmp_path)
    try:
        with pytest.raises(EngineFailure) as caught:
            engine.wait_ready(stall_s=1.0)
    finally:
        engine.stop()
    assert caught.value.kind == FailureKind.TIMEOUT
    assert str(caught.value).endswith(
        "engine did nothing for 1 s while loading weights (engine.start_timeout_s); it logged last: "
        "INFO [x.py:1] Starting to load model m..."
    )
