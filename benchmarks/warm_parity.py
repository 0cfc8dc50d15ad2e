"""Does a warm engine measure like a cold one? Pairs of both, interleaved in a random order, under the same load.

Usage: python -m benchmarks.warm_parity [--pairs 10]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, configuration, engine_of, mean_interval, provenance, require_quiet
from objectives import Measurement
from objectives.latency import LatencyQuantile
from objectives.throughput import RequestRate
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.load.arrivals import ClosedLoop
from optimize.load.generator import run_load
from optimize.schema import StudyConfig
from optimize.workload import Workload, load_workload

MODES = ("cold", "warm")
FIGURES = ("start_s", "qps", "p99_latency_s")
Run = Mapping[str, float]


def measure(launcher: VllmLauncher, engine_config: EngineConfig, workload: Workload, config: StudyConfig) -> Run:
    """Start an engine, load it, stop it."""
    with TemporaryDirectory() as folder:
        began = time.monotonic()
        engine = launcher.launch(engine_config, Path(folder) / "log")
        start_s = time.monotonic() - began
        try:
            loaded = run_load(
                engine, workload, RequestConfig(), config.load, ClosedLoop(users=4), seed=0, phase=lambda _: None
            )
        finally:
            engine.stop()
    measurement = Measurement(loaded.records, loaded.window_start_s, loaded.window_end_s, {})
    qps, p99 = RequestRate().estimate(measurement), LatencyQuantile(0.99).estimate(measurement)
    assert qps is not None and p99 is not None
    return {"start_s": start_s, "qps": qps.value, "p99_latency_s": p99.value}


def report(runs: Sequence[Mapping[str, Run]]) -> str:
    """Table in Markdown: warm against cold in the same pair, and cold against the cold of the next pair."""
    lines = ["| | cold, median | warm, median | warm : cold | cold : next cold |", "|---|---|---|---|---|"]
    for name in FIGURES:
        warm_cold = [math.log(pair["warm"][name] / pair["cold"][name]) for pair in runs]
        cold_cold = [
            math.log(b["cold"][name] / a["cold"][name]) for a, b in zip(runs[::2], runs[1::2], strict=False)
        ]  # disjoint pairs, so that their differences are independent
        medians = [statistics.median(pair[mode][name] for pair in runs) for mode in MODES]
        lines.append(f"| {name} | {medians[0]:.3g} | {medians[1]:.3g} | {_ratio(warm_cold)} | {_ratio(cold_cold)} |")
    return "\n".join(lines)


def _ratio(logs: Sequence[float]) -> str:
    """Geometric mean with its interval, the spread of one pair, and how many there are."""
    mean, low, high = (math.exp(v) for v in mean_interval(logs))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}], spread ×{math.exp(statistics.stdev(logs)):.2f}, n={len(logs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--quantization", default="fp16")
    parser.add_argument("--batch-size", type=int, default=16)
    asked = parser.parse_args()
    pairs = asked.pairs
    require_quiet()
    config = configuration(["+study=chat"])
    workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
    engine_config = engine_of(config, {"quantization": asked.quantization, "batch_size": asked.batch_size})
    launchers = {mode: VllmLauncher(env=config.hardware.env, start=mode) for mode in MODES}
    launchers["warm"].prepare()
    rng, runs = random.Random(0), []
    try:
        for number in range(pairs):
            order = rng.sample(MODES, k=2)
            runs.append({mode: measure(launchers[mode], engine_config, workload, config) for mode in order})
            print(f"pair {number + 1} of {pairs}: {runs[-1]}", flush=True)
    finally:
        launchers["warm"].close()
    table = report(runs)
    print(table)
    command = f"{asked.quantization} --batch-size {asked.batch_size} --pairs {pairs}"
    head = "# Warm and cold engines measure alike\n\n" + provenance(
        f"python -m benchmarks.warm_parity --quantization {command}"
    )
    what = (
        "Each pair starts the same configuration once cold and once warm, in a random order, and loads it with four "
        "users after the usual warm-up. Ratios are geometric means; the spread is the factor by which one pair's ratio "
        "typically differs. The last column compares cold engines with cold engines of the neighbouring pair: what the "
        "machine alone does."
    )
    raw = ["| pair | " + " | ".join(f"{m} {f}" for m in MODES for f in FIGURES) + " |", "|---" * 7 + "|"]
    raw += [
        f"| {i} | " + " | ".join(f"{pair[m][f]:.3g}" for m in MODES for f in FIGURES) + " |"
        for i, pair in enumerate(runs, 1)
    ]
    text = "\n\n".join([head, what, table, "\n".join(raw)])
    (RESULTS / "warm_parity.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
