"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def workload_file(tmp_path: Path) -> Path:
    """Sixty prompts whose references are the prompts themselves, as the simulated engine answers."""
    path = tmp_path / "workload.jsonl"
    words = [
        "the",
        "old",
        "dog",
        "sees",
        "a",
        "small",
        "red",
        "house",
        "near",
        "the",
        "river",
        "and",
        "two",
        "birds",
    ]
    lines = [json.dumps({"prompt": p, "reference": p}) for p in (f"{i} " + " ".join(words) for i in range(60))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def simulated(tmp_path: Path, workload_file: Path) -> list[str]:
    """Overrides of a quick study on the simulated engine, everything under tmp_path."""
    return [
        "+study=smoke",
        "engine=simulated",
        "engine.token_s=0.0005",
        "workload=file",
        f"workload.path={workload_file}",
        f"output_dir={tmp_path}/out",
        f"cache_dir={tmp_path}/cache",
        "search_space.quantization=null",
        "load.warmup_s=0.1",
        "load.warmup_requests=4",
        "load.window_min_s=1.2",
        "load.window_requests=10",
    ]


@pytest.fixture
def optimize() -> Run:
    """Runs `python -m optimize` (or another verb) as a user would."""

    def run(overrides: Sequence[str], verb: str = "optimize", timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", verb, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, "COLUMNS": "200"}, check=False,
        )  # fmt: skip

    return run


def engine_processes(marker: str) -> list[psutil.Process]:
    """Living processes whose command line holds `marker`, this one left out."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if marker in line and process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
