"""How many requests per second can the client ask for, and how late are they sent? Against a stub that answers at once.

Usage: python -m benchmarks.client_capacity [--repeats 3] [--guidellm PATH/TO/guidellm]
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.peers import LoadRequest, guidellm, vllm_bench, write_prompts
from optimize.config.compose import configuration
from optimize.config.measuring import Load
from optimize.engine.base import RequestConfig
from optimize.load.arrivals import Arrivals, ClosedLoop, Constant, Poisson
from optimize.load.client_pool import ClientPool
from optimize.load.generator import LoadControl, LoadResult, Traffic, run_load
from optimize.testing.stub_engine import StubEngine, stub
from optimize.workload.workload import Workload, load_workload

USERS, WINDOW_S, PEER_REQUESTS = 64, 6.0, 4000
RATE_PER_S, RATE_S = 1000.0, 10.0
MANY = 50_000


def loaded(
    engine: StubEngine, workload: Workload, arrivals: Arrivals, clients: ClientPool, seconds: float
) -> LoadResult:
    load = Load(warmup_s=1, warmup_max_s=2, window_min_s=seconds, window_requests=1, window_max_s=seconds)
    return run_load(
        clients, engine, Traffic(workload, RequestConfig(), arrivals, load), LoadControl(first_answers=False)
    )


def rate(result: LoadResult) -> float:
    start_s, end_s = result.window_start_s, result.window_end_s
    return sum(r.error is None and start_s <= r.done_s < end_s for r in result.records) / (end_s - start_s)


def saturate(workload: Workload, model: str, folder: Path, repeats: int, guidellm_path: str | None) -> str:
    """Requests per second of each generator with 64 users, in turn."""
    rates: dict[str, list[float]] = defaultdict(list)
    prompts = write_prompts(workload.prompts, folder, PEER_REQUESTS)
    peers: dict[str, Callable[[LoadRequest], dict[str, float]]] = {"vllm bench serve": lambda a: vllm_bench(a, folder)}
    if guidellm_path is not None:
        peers["GuideLLM"] = lambda a: guidellm(a, folder, guidellm_path)
    for _ in range(repeats):
        for processes in range(1, (os.cpu_count() or 1) + 1):
            with stub() as engine, ClientPool(processes) as clients:
                result = loaded(engine, workload, ClosedLoop(USERS), clients, WINDOW_S)
            rates[f"this project, {processes} client process{'es' if processes > 1 else ''}"].append(rate(result))
        for name, run in peers.items():
            with stub() as engine:
                load = LoadRequest(engine.endpoint, model, prompts, PEER_REQUESTS, workload.max_tokens, users=USERS)
                rates[name].append(run(load)["qps"])
        print({name: round(values[-1]) for name, values in rates.items()}, flush=True)
    lines = [f"| generator, {USERS} users | requests/s, median of the repeats (least, most) |", "|---|---|"]
    for name, values in rates.items():
        lines.append(f"| {name} | {statistics.median(values):.0f} ({min(values):.0f}, {max(values):.0f}) |")
    return "\n".join(lines)


def punctual(workload: Workload) -> str:
    """Send lag at a thousand requests per second."""
    lines = [
        f"| asked, for {RATE_S:g} s | clients | due | sent | failed | send lag, median | P99 | busiest client |",
        "|---" * 8 + "|",
    ]
    for arrivals in (Poisson(RATE_PER_S), Constant(RATE_PER_S)):
        for processes in range(1, (os.cpu_count() or 1) + 1):
            with stub() as engine, ClientPool(processes) as clients:
                result = loaded(engine, workload, arrivals, clients, RATE_S)
            audit, start_s, end_s = result.audit, result.window_start_s, result.window_end_s
            failed = sum(r.error is not None and start_s <= r.due_s < end_s for r in result.records)
            median_ms, p99_ms = audit.send_lag_median_s * 1e3, audit.send_lag_p99_s * 1e3
            lines.append(
                f"| {arrivals.describe()} | {processes} | {audit.asked} | {audit.sent} | {failed} | "
                f"{median_ms:.2f} ms | {p99_ms:.2f} ms | {audit.client_cpu:.0%} |"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines)


def many(workload: Workload) -> str:
    """One measurement of 50,000 requests: nothing lost, and no client process that grows."""
    with stub() as engine, ClientPool() as clients:
        clients.begin()
        client, own = psutil.Process(clients.pids[0]), psutil.Process()
        sizes: list[tuple[int, int]] = []

        def look(*_: object) -> bool:
            sizes.append((client.memory_info().rss, own.memory_info().rss))
            return True

        def phase(name: str) -> None:
            if name == "measuring":
                look()

        load = Load(warmup_s=1, warmup_max_s=2, window_min_s=1, window_requests=MANY, window_max_s=600)
        traffic = Traffic(workload, RequestConfig(), Poisson(RATE_PER_S), load)
        result = run_load(clients, engine, traffic, LoadControl(phase, first_answers=False, precise=look))
    inside = [r for r in result.records if result.window_start_s <= r.due_s < result.window_end_s]
    whole = sum(r.error is None and r.output_tokens == 8 and r.first_token_s is not None for r in inside)
    lines = [
        "| one measurement | |", "|---|---|",
        f"| requests due in the window | {result.audit.asked} |",
        f"| records of them, whole | {len(inside)}, {whole} |",
        f"| window | {result.window_end_s - result.window_start_s:.0f} s |",
        f"| memory of the client process, first and last | {_mib(sizes[0][0])}, {_mib(sizes[-1][0])} |",
        f"| memory of the process that keeps the records, first and last | {_mib(sizes[0][1])}, {_mib(sizes[-1][1])} |",
    ]  # fmt: skip
    return "\n".join(lines)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--guidellm")
    args = parser.parse_args()
    require_quiet()
    config = configuration(["+study=chat"])
    workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
    with TemporaryDirectory() as folder:
        parts = [  # the records of many requests first, while this process holds nothing else
            f"## {MANY:,} requests", many(workload),
            "## Saturation", saturate(workload, config.model.path, Path(folder), args.repeats, args.guidellm),
            "## Punctuality", punctual(workload),
        ]  # fmt: skip
    text = "\n\n".join(parts)
    print(text)
    what = (
        "The stub (optimize/testing/stub_server.py) streams eight words at once and shares the machine's cores with "
        "the generators, "
        "in turn, each in a run of its own."
    )
    peer = " --guidellm guidellm" if args.guidellm else ""
    command = f"python -m benchmarks.client_capacity --repeats {args.repeats}{peer}"
    head = f"# Capacity of the client\n\n{provenance(command)}"
    (RESULTS / "capacity.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
