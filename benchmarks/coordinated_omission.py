"""A server that freezes for two seconds: whose figures show it?

Usage: python -m benchmarks.coordinated_omission [--repeats 3]

The stub answers within 0.4 s and freezes once. This project's generator and `vllm bench serve` load it in turn: in a
closed loop, with Poisson arrivals, and with Poisson arrivals of which the peer keeps eight in flight at most, as is
often done.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.peers import LoadRequest, vllm_bench, write_prompts
from objectives import Measurement
from objectives.latency import LatencyQuantile
from optimize.config.compose import configuration
from optimize.config.measuring import Load
from optimize.engine.base import RequestConfig
from optimize.load.arrivals import Arrivals, ClosedLoop, Poisson
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.testing.stub_engine import StubEngine, stub
from optimize.workload.workload import Workload, load_workload

USERS, RATE_PER_S = 8, 16.0
TOKENS, TOKEN_S = 8, 0.05
AFTER_S, FREEZE_S, WINDOW_S = 6.0, 2.0, 10.0
Figures = tuple[float, float]
LOADS: dict[str, Arrivals] = {f"{USERS} users": ClosedLoop(USERS), f"{RATE_PER_S:g} requests/s": Poisson(RATE_PER_S)}


def ours(engine: StubEngine, workload: Workload, arrivals: Arrivals, clients: ClientPool) -> Figures:
    """P90 and P99 in seconds, by a window of fixed length around the freeze."""
    load = Load(warmup_s=1, warmup_max_s=2, window_min_s=WINDOW_S, window_requests=1, window_max_s=WINDOW_S)
    result = run_load(clients, engine, Traffic(workload, RequestConfig(), arrivals, load))
    measurement = Measurement(result.records, result.window_start_s, result.window_end_s, {})
    p90, p99 = (LatencyQuantile(q).estimate(measurement) for q in (0.9, 0.99))
    assert p90 is not None and p99 is not None
    return p90.value, p99.value


def one_round(workload: Workload, model: str, folder: Path, clients: ClientPool) -> dict[tuple[str, str], Figures]:
    """(load, generator) -> P90 and P99 in seconds, each against a stub of its own."""
    figures: dict[tuple[str, str], Figures] = {}
    options = ("--tokens", TOKENS, "--token-s", TOKEN_S, "--freeze", AFTER_S, FREEZE_S)
    for name, arrivals in LOADS.items():
        with stub(*options) as engine:
            figures[name, "this project"] = ours(engine, workload, arrivals, clients)
    closed, open_loop = LOADS
    prompts = write_prompts(workload.prompts, folder)
    for name, users, rate in (
        (closed, USERS, None),
        (open_loop, None, RATE_PER_S),
        (f"{open_loop}, at most {USERS} in flight", USERS, RATE_PER_S),
    ):
        with stub(*options) as engine:
            rate_per_s = rate or USERS / TOKENS / TOKEN_S
            load = LoadRequest(
                engine.endpoint, model, prompts, round(rate_per_s * (AFTER_S + WINDOW_S)), TOKENS, users, rate
            )
            theirs = vllm_bench(load, folder)
            figures[name, "vllm bench serve"] = theirs["p90_latency_s"], theirs["p99_latency_s"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    require_quiet()
    config = configuration(["+study=chat"])
    workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
    workload = replace(workload, max_tokens=TOKENS)
    series: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    with TemporaryDirectory() as folder, ClientPool() as clients:
        for _ in range(repeats):
            for key, seconds in one_round(workload, config.model.path, Path(folder), clients).items():
                series[key].append(seconds)
                print(key, seconds, flush=True)
    lines = ["| load | generator | P90 latency, median of the repeats (least, most) | P99 latency |", "|---" * 4 + "|"]
    for (load, generator), values in sorted(series.items()):
        shown = [f"{statistics.median(v):.2f} s ({min(v):.2f}, {max(v):.2f})" for v in zip(*values, strict=True)]
        lines.append(f"| {load} | {generator} | {shown[0]} | {shown[1]} |")
    text = "\n".join(lines)
    print(text)
    what = (
        f"A stub that takes {TOKENS * TOKEN_S:g} s per answer freezes once for {FREEZE_S:g} s, {repeats} times each. "
        "With a limit on what is in flight, the requests that wait for their turn behind the freeze are not seen by a "
        "clock that starts when a request is sent; here it starts when it was due."
    )
    head = "# Coordinated omission\n\n" + provenance(f"python -m benchmarks.coordinated_omission --repeats {repeats}")
    (RESULTS / "omission.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
