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

from benchmarks.common import RESULTS, engine_of, mean_interval, provenance, require_quiet
from objectives import Measurement
from objectives.latency import LatencyQuantile
from objectives.throughput import RequestRate
from optimize.config.compose import configuration
from optimize.config.schema import StudyConfig
from optimize.engine.base import Engine, EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.evaluation.interference import Machine, disturbances
from optimize.evaluation.telemetry import Telemetry
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.workload.workload import Workload, load_workload

MODES = ("cold", "warm")
FIGURES = ("start_s", "qps", "p99_latency_s")
Run = Mapping[str, float]
_ATTEMPTS = 4


def measure(
    launcher: VllmLauncher, engine_config: EngineConfig, workload: Workload, config: StudyConfig, clients: ClientPool
) -> Run:
    """Start an engine, load it, stop it; repeated where the machine was disturbed meanwhile."""
    for _ in range(_ATTEMPTS):
        with TemporaryDirectory() as folder:
            began = time.monotonic()
            engine = launcher.launch(engine_config, Path(folder) / "log")
            start_s = time.monotonic() - began
            try:
                run, disturbed = _load(engine, workload, config, clients)
            finally:
                engine.stop()
        if not disturbed:
            return {"start_s": start_s, **run}
        print(f"measured again: {'; '.join(disturbed)}", flush=True)
    raise SystemExit(f"the machine is disturbed ({'; '.join(disturbed)}): try again when it is quiet")


def _load(
    engine: Engine, workload: Workload, config: StudyConfig, clients: ClientPool
) -> tuple[dict[str, float], list[str]]:
    traffic = Traffic(workload, RequestConfig(), ClosedLoop(users=4), config.load)
    with Telemetry(engine, Machine(lambda: [*engine.pids, *clients.pids])).sampling() as telemetry:
        loaded = run_load(clients, engine, traffic)
    window = (loaded.window_start_s, loaded.window_end_s)
    measurement = Measurement(loaded.records, *window, {}, telemetry.series(loaded.began_at))
    qps, p99 = RequestRate().estimate(measurement), LatencyQuantile(0.99).estimate(measurement)
    assert p99 is not None
    doubts = [*disturbances(measurement, config.load.guard), *loaded.audit.problems(config.load.guard)]
    return {"qps": qps.value, "p99_latency_s": p99.value}, doubts


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
    """Geometric mean with its interval, the spread of one pair, and the number of pairs."""
    mean, low, high = (math.exp(v) for v in mean_interval(logs))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}], spread ×{math.exp(statistics.stdev(logs)):.2f}, n={len(logs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--quantization", default="fp16")
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    pairs = args.pairs
    require_quiet()
    # A window of one length for all: this is about the engines, not about when to stop.
    config = configuration(["+study=chat", "load.window_min_s=10", "load.window_max_s=10"])
    workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
    engine_config = engine_of(config, {"quantization": args.quantization, "batch_size": args.batch_size})
    launchers = {mode: VllmLauncher(env=config.hardware.env, start=mode) for mode in MODES}
    launchers["warm"].prepare()
    rng, runs = random.Random(0), []
    try:
        with ClientPool() as clients:
            for number in range(pairs):
                order = rng.sample(MODES, k=2)
                runs.append(
                    {mode: measure(launchers[mode], engine_config, workload, config, clients) for mode in order}
                )
                print(f"pair {number + 1} of {pairs}: {runs[-1]}", flush=True)
    finally:
        launchers["warm"].close()
    table = report(runs)
    print(table)
    command = f"{args.quantization} --batch-size {args.batch_size} --pairs {pairs}"
    head = "# Warm and cold engines measure alike\n\n" + provenance(
        f"python -m benchmarks.warm_parity --quantization {command}"
    )
    what = (
        "Each pair starts the same configuration once cold and once warm, in a random order, and loads it with four "
        "users after the usual warm-up, for ten seconds; what the guard finds disturbed is measured again. Ratios are "
        "geometric means; the spread is the factor by which one pair's ratio "
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
