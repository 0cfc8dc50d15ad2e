"""What the benchmarks share: a composed configuration, a line about the machine, checks for leftovers."""

from __future__ import annotations

import importlib.metadata
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from scipy import stats

from optimize.config import schema
from optimize.engine.base import EngineConfig
from optimize.engine.flags import vllm_distribution
from optimize.hardware import machine
from optimize.quantize.checkpoints import make_checkpoints
from optimize.search.space import make_space

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def engine_of(config: schema.StudyConfig, params: Mapping[str, Any]) -> EngineConfig:
    """The engine of these settings, its checkpoint made if the cache has none."""
    space = make_space(config.search_space, config.model, config.recipes, config.quantization, config.baseline)
    checkpoints, _ = make_checkpoints(config.model, space.recipes_needed(), Path(config.cache_dir), lambda _: None)
    return space.resolve(params, checkpoints).engine


def provenance(command: str) -> str:
    """Where a table comes from, in one paragraph of Markdown."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("optuna", "mlflow"))
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with `{command}` on {machine()}; {' '.join(vllm_distribution())}, "
        f"{versions}, Python {platform.python_version()}. Intervals are 95 %."
    )


def simulated_by(command: str) -> str:
    """The same of figures that no engine was asked for."""
    return provenance(command).replace("Measured on", "Simulated on", 1)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of independent values, by Student's t."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return mean, -math.inf, math.inf
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return mean, mean - half, mean + half


def processes() -> ProcessPoolExecutor:
    """One per core, each of one thread: two that compute with two threads each take turns waiting for each other."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when numpy is imported, hence anew
    return ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))


def run_verb(verb: str, words: Sequence[str]) -> float:
    """Run a command of the project, whose output is shown; returns its seconds."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", verb, *words], cwd=ROOT, check=True)
    return time.monotonic() - began


def require_quiet() -> None:
    """Refuse to measure while another program's engine is running."""
    strays = [p.pid for p in psutil.process_iter(["cmdline"]) if "VLLM::" in " ".join(p.info["cmdline"] or [])]
    if strays:
        raise SystemExit(f"live engines are running (processes {strays}): they would falsify the figures")
