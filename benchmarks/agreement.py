"""Do three load generators agree on one live engine? Same prompts, same number of users, in turn.

Where they differ, the engine decides: its own histograms have all latencies. And all three
are compared on a stub server that needs next to no processor, so that a client cannot slow it down.

Usage: python -m benchmarks.agreement [--rounds 5] [--guidellm PATH/TO/guidellm]
       python -m benchmarks.agreement --dataset sharegpt.json [--requests 60] [--rounds 3] [--cache .cache]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import RESULTS, engine_of, mean_interval, provenance, require_quiet
from benchmarks.dataset_agreement import FIGURES as DATASET_FIGURES
from benchmarks.dataset_agreement import heading, runs_of
from benchmarks.peers import FIGURES, LoadRequest, guidellm, vllm_bench, write_prompts
from objectives import Measurement
from optimize.config.compose import configuration
from optimize.config.measuring import Guard, Load
from optimize.config.schema import StudyConfig
from optimize.engine.base import Engine, RequestConfig
from optimize.evaluation.interference import Machine, disturbances
from optimize.evaluation.telemetry import PERIOD_S, Telemetry
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import LoadControl, Traffic, run_load
from optimize.plan import make_plan
from optimize.testing.stub_engine import stub
from optimize.workload.workload import Workload, load_workload

USERS, REQUESTS = 4, 300
TOKENS, TOKEN_S = 16, 0.02
OURS = "this project"
HISTOGRAMS = {
    "ttft_s": "vllm:time_to_first_token_seconds",
    "tpot_s": "vllm:request_time_per_output_token_seconds",
    "latency_s": "vllm:e2e_request_latency_seconds",
}
Run = Mapping[str, Any]
Generators = Mapping[str, Callable[[], Run]]


def ours(engine: Engine, workload: Workload, clients: ClientPool) -> Run:
    """Mean figures over a window that is asked to hold as many requests as the peers send."""
    load = Load(warmup_s=0.5, warmup_max_s=3, window_min_s=1, window_requests=REQUESTS, window_max_s=120)
    traffic = Traffic(workload, RequestConfig(), ClosedLoop(USERS), load)
    result = run_load(clients, engine, traffic, LoadControl(first_answers=False))
    measured = Measurement(result.records, result.window_start_s, result.window_end_s, {})
    answers = measured.answered
    return {
        "qps": len(measured.completed_in_window) / measured.window_s,
        "ttft_s": statistics.fmean(r.ttft_s for r in answers if r.ttft_s is not None),
        "tpot_s": statistics.fmean(r.tpot_s for r in answers if r.tpot_s is not None),
        "latency_s": statistics.fmean(r.latency_s for r in answers),
        "start_times_s": sorted(result.began_at + r.sent_s for r in result.records),
    }


def report(runs: Mapping[str, Sequence[Run]], figures: Sequence[str] = FIGURES) -> str:
    """Each generator's figures, and its ratio to this project's within the same round."""
    lines = [
        "| figure | generator | mean of the rounds | ratio to this project, same round | verdict |",
        "|---" * 5 + "|",
    ]
    for figure in figures:
        for name, repeats in runs.items():
            mean, low, high = mean_interval([run[figure] for run in repeats])
            shown = f"{mean:.4g} ({low:.4g}–{high:.4g})"
            if name == OURS:
                lines.append(f"| {figure} | {name} | {shown} | | |")
                continue
            logs = [math.log(theirs[figure] / own[figure]) for theirs, own in zip(repeats, runs[OURS], strict=True)]
            ratio, below, above = (math.exp(v) for v in mean_interval(logs))
            if abs(ratio - 1) <= 0.05:
                verdict = "within 5 %"
            else:
                verdict = "inside the interval" if below <= 1 <= above else "differs"
            lines.append(f"| {figure} | {name} | {shown} | {ratio:.3f} ({below:.3f}–{above:.3f}) | {verdict} |")
    return "\n".join(lines)


def as_the_server_saw_it(runs: Mapping[str, Sequence[Run]]) -> str:
    """Each latency split into the engine's share and the client's, and the cost of the client."""
    lines = [
        "| generator | engine: TTFT | TPOT | latency | client adds to TTFT | to latency | until the next request | "
        "cores beside the engine |",
        "|---" * 8 + "|",
    ]
    for name, repeats in runs.items():
        server = [mean_interval([run[f"server_{figure}"] for run in repeats]) for figure in HISTOGRAMS]
        added = [mean_interval([r[f] - r[f"server_{f}"] for r in repeats]) for f in ("ttft_s", "latency_s")]
        idle = mean_interval([USERS / r["qps"] - r["latency_s"] for r in repeats])
        cells = [f"{1e3 * m:.1f} ms ({1e3 * low:.1f}–{1e3 * high:.1f})" for m, low, high in [*server, *added, idle]]
        cores, low, high = mean_interval([run["cores"] for run in repeats])
        lines.append("| " + " | ".join([name, *cells, f"{cores:.2f} ({low:.2f}–{high:.2f})"]) + " |")
    return "\n".join(lines)


def undisturbed(engine: Engine, run: Callable[[], Run]) -> Run:
    """Run it until the host disturbed nothing meanwhile; with the engine's own view of the run, and the client's cost.

    A peer's processes cannot be told from other programs: what is not the engine's counts as the generator's.
    """
    guard = Guard(other_cores_max=1.0)
    while True:
        before = server_side(engine)
        with Telemetry(engine, Machine(lambda: engine.pids)).sampling() as telemetry:
            figures = run()
        after, series = server_side(engine), telemetry.series(0.0)
        if disturbances(Measurement([], 0.0, math.inf, {}, series), guard):
            continue
        means = {
            f"server_{figure}": (after[name, "sum"] - before[name, "sum"])
            / (after[name, "count"] - before[name, "count"])
            for figure, name in HISTOGRAMS.items()
        }
        loaded = {round(t / PERIOD_S) for t, running in series["requests_running"] if running}
        shares = [share for t, share in series["other_cores"] if round(t / PERIOD_S) in loaded]
        return {**figures, **means, "cores": statistics.fmean(shares) * (os.cpu_count() or 1)}


def server_side(engine: Engine) -> dict[tuple[str, str], float]:
    """(histogram, "sum" or "count") -> total of the engine so far."""
    text = httpx.get(f"{engine.endpoint.base_url}/metrics", trust_env=False, headers=engine.endpoint.headers).text
    lines = "\n".join(x for x in text.splitlines() if x.startswith(tuple(HISTOGRAMS.values())) and "_bucket" not in x)
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            name, _, kind = sample.name.rpartition("_")
            totals[name, kind] += sample.value
    return totals


def in_turn(generators: Generators, rounds: int, run: Callable[[Callable[[], Run]], Run]) -> dict[str, list[Run]]:
    """Every generator once a round, in a random order."""
    runs: dict[str, list[Run]] = {name: [] for name in generators}
    rng = random.Random(0)
    for number in range(rounds):
        for name in rng.sample(list(generators), k=len(generators)):
            runs[name].append(run(generators[name]))
            shown = {figure: round(runs[name][-1][figure], 4) for figure in FIGURES}
            print(f"round {number + 1}, {name}: {shown}", flush=True)
    return runs


def generators_of(
    engine: Engine, workload: Workload, clients: ClientPool, load: LoadRequest, folder: Path, peer: str | None
) -> Generators:
    generators: dict[str, Callable[[], Run]] = {
        OURS: lambda: ours(engine, workload, clients),
        "vllm bench serve": lambda: vllm_bench(load, folder),
    }
    return generators | ({"GuideLLM": lambda: guidellm(load, folder, peer)} if peer else {})


def on_the_engine(
    config: StudyConfig, workload: Workload, clients: ClientPool, rounds: int, peer: str | None
) -> dict[str, list[Run]]:
    with TemporaryDirectory() as folder:
        plan = make_plan(dataclasses.replace(config, output_dir=folder))
        prompts = write_prompts(workload.prompts, Path(folder))
        plan.launcher.prepare()
        engine = plan.launcher.launch(
            engine_of(config, {"quantization": "fp16", "batch_size": 16}), Path(folder) / "log"
        )
        load = LoadRequest(engine.endpoint, config.model.path, prompts, REQUESTS, workload.max_tokens, users=USERS)

        def run(generator: Callable[[], Run]) -> Run:
            engine.reset()
            return undisturbed(engine, generator)

        try:
            generators = generators_of(engine, workload, clients, load, Path(folder), peer)
            generators[OURS]()  # warms the engine up for all
            return in_turn(generators, rounds, run)
        finally:
            engine.stop()
            plan.launcher.close()


def on_the_stub(
    config: StudyConfig, workload: Workload, clients: ClientPool, rounds: int, peer: str | None
) -> dict[str, list[Run]]:
    short = dataclasses.replace(workload, max_tokens=TOKENS)
    with TemporaryDirectory() as folder, stub("--tokens", TOKENS, "--token-s", TOKEN_S) as engine:
        prompts = write_prompts(workload.prompts, Path(folder))
        load = LoadRequest(engine.endpoint, config.model.path, prompts, REQUESTS, TOKENS, users=USERS)
        generators = generators_of(engine, short, clients, load, Path(folder), peer)
        return in_turn(generators, rounds, lambda generator: with_way_to_server(engine, generator))


def with_way_to_server(engine: Engine, generator: Callable[[], Run]) -> Run:
    """Run it; with the mean seconds from a request's clock being started to its reaching the stub."""
    arrivals_of(engine)
    figures = generator()
    arrivals = sorted(arrivals_of(engine))
    if "start_times_s" not in figures:
        return figures
    # A peer may send a request of its own first; this project's last ones are not answered when its load ends.
    started = figures["start_times_s"]
    reached = arrivals[-len(started) :] if len(started) == REQUESTS else arrivals[: len(started)]
    return {**figures, "way_s": statistics.fmean(reached) - statistics.fmean(started)}


def arrivals_of(engine: Engine) -> list[float]:
    arrivals_s: list[float] = httpx.get(f"{engine.endpoint.base_url}/arrivals", trust_env=False).json()
    return arrivals_s


def ways(runs: Mapping[str, Sequence[Run]]) -> str:
    """How long requests take from their client's clock to the stub."""
    parts = []
    for name, repeats in runs.items():
        if "way_s" in repeats[0]:
            mean, low, high = (1e3 * v for v in mean_interval([r["way_s"] for r in repeats]))
            parts.append(f"{mean:.2f} ms ({low:.2f}–{high:.2f}) with {name}")
    return "From the start of a request's clock to its arrival at the stub: " + ", ".join(parts) + "."


def on_a_dataset(args: argparse.Namespace) -> None:
    """Compare this project with `vllm bench serve` on a file of conversations, and write the page."""
    runs = runs_of(args.dataset, args.cache, args.requests, args.rounds, OURS)
    command = f"python -m benchmarks.agreement --dataset {args.dataset.name} --requests {args.requests}"
    parts = [
        "# Agreement on a file of conversations",
        provenance(f"{command} --rounds {args.rounds}"),
        heading(args.dataset, args.requests),
        report(runs, DATASET_FIGURES),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    (RESULTS / "agreement_conversations.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--guidellm")
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    args = parser.parse_args()
    rounds, peer = args.rounds, args.guidellm
    require_quiet()
    if args.dataset is not None:
        on_a_dataset(args)
        return
    config = configuration(["+study=chat"])
    workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
    with ClientPool() as clients:
        stubbed = on_the_stub(config, workload, clients, rounds, peer)
        live = on_the_engine(config, workload, clients, rounds, peer)
    command = f"python -m benchmarks.agreement --rounds {rounds}{' --guidellm guidellm' if peer else ''}"
    parts = [
        "# Agreement with other load generators",
        provenance(command),
        f"{USERS} users, {REQUESTS} requests to each generator in turn, in a random order within each round. Times "
        "count from when a request was sent, which with users who wait is when it was due. Ratios are geometric means "
        "over the rounds.",
        "## On a live engine",
        "FP16, batch 16, the chat workload; the prefix cache is reset before each. Clients share the two cores with "
        "the engine.",
        report(live),
        "The same runs as the engine's own histograms have them (means over all requests, warm-up included), and the "
        "processors used by anything but the engine while it had requests:",
        as_the_server_saw_it(live),
        "## On a server that needs next to no processor",
        f"The stub answers {TOKENS} tokens, one every {TOKEN_S * 1e3:g} ms: a latency of {TOKENS * TOKEN_S:g} s and "
        f"{USERS / TOKENS / TOKEN_S:g} requests/s if neither it nor the client lost any time.",
        report(stubbed),
        ways(stubbed),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    (RESULTS / "agreement.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
