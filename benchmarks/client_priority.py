"""Who comes first on the processors: the same engines and load with each means of protecting the clients.

Usage: python -m benchmarks.client_priority [--repeats 3] [--means normal,raised] [--rows FILE]

Writes docs/results/priority.md from all rows of the file, to which every run appends. A repeat starts an engine of each
means and quantization, in a random order, and puts busy loops beside it. Each time the load's own clients measure, then
a client that costs next to nothing and is served at once (`benchmarks.bare_client`): what somebody sees who asks from
another machine. Raising that client needs root. What a study would drop because its requests were sent late is kept
here, since lateness is what is looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from benchmarks import bare_client
from benchmarks.common import RESULTS, engine_of, provenance, require_quiet
from objectives import Measurement
from optimize.config.compose import configuration
from optimize.engine.base import Engine, RequestConfig
from optimize.engine.priority import CLIENT_LEAD
from optimize.errors import EngineFailure
from optimize.evaluation.estimates import estimate_all
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.plan import Plan, make_plan

QUANTIZATIONS = ("published", "int8")
_WARMUP_S, _WINDOW_S, _SETTLE_S = 2.0, 5.0, 0.3
Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Means:
    """One way of protecting the clients.

    Attributes:
        title: In the table.
        overrides: Of the configuration.
        client_lead: How many nice values the clients are raised.
    """

    title: str
    overrides: tuple[str, ...] = ("engine.niceness=0",)
    client_lead: int = 0


@dataclasses.dataclass(frozen=True)
class Company:
    """Other programs beside the engine: endless loops, in the study's session or each in its own."""

    title: str
    loops: int = 0
    apart: bool = True


MEANS = {
    "normal": Means("none"),
    "raised": Means("clients raised by 5 (`auto` where permitted)", client_lead=CLIENT_LEAD),
    "yielding": Means("engine lowered by 5 (`auto` elsewhere)", ("engine.niceness=5",)),
    "lowest": Means("engine at nice 19", ("engine.niceness=19",)),
    "passive": Means("`OMP_WAIT_POLICY=PASSIVE`", ("engine.niceness=0", "+engine.env.OMP_WAIT_POLICY=PASSIVE")),
    "left_out": Means(
        "`VLLM_CPU_OMP_THREADS_BIND=0`", ("engine.niceness=0", "+engine.env.VLLM_CPU_OMP_THREADS_BIND='0'")
    ),
}
COMPANY = (
    Company("none"),
    Company("1 loop", 1),
    Company("2 loops", 2),
    Company("2 loops, same session", 2, apart=False),
)


@contextlib.contextmanager
def busy(company: Company) -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command, start_new_session=company.apart) for _ in range(company.loops)]
    try:
        time.sleep(_SETTLE_S)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def raise_clients(clients: ClientPool, lead: int) -> None:
    clients.begin()
    time.sleep(_SETTLE_S)  # a new process first raises itself
    for pid in clients.pids:
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) - lead)


def ours(clients: ClientPool, engine: Engine, plan: Plan) -> Figures:
    """What the load's own clients measure; a failure's reason where they measure nothing."""
    load = dataclasses.replace(
        plan.config.load, warmup_settle_s=_WARMUP_S, window_min_s=_WINDOW_S, window_max_s=2 * _WINDOW_S
    )
    traffic = Traffic(plan.workload, RequestConfig(), plan.arrivals, load)
    try:
        result = run_load(clients, engine, traffic)
    except EngineFailure as failure:
        return {"failure": str(failure)}
    measured = Measurement(result.records, result.window_start_s, result.window_end_s, {})
    names = ("qps", "p50_latency_s", "p99_latency_s")
    values = estimate_all(measured, {name: plan.metrics[name] for name in names if name in plan.metrics})
    return {**{n: e.value for n, e in values.items()}, "send_lag_p99_s": result.audit.send_lag_p99_s}


def bare(engine: Engine, plan: Plan) -> Figures:
    """What the client measures that costs next to nothing."""
    endpoint, workload = engine.endpoint, plan.workload
    url = urlsplit(endpoint.base_url)
    requests = bare_client.requests_of(endpoint, workload.prompts, workload.max_tokens)
    users = plan.arrivals.users  # type: ignore[union-attr]
    job = bare_client.Job(str(url.hostname), int(url.port or 80), requests, users, 1.0, _WINDOW_S)
    figures = bare_client.run(job)
    latencies = sorted(figures.pop("latencies_s"))
    if latencies:
        figures |= {
            "p50_latency_s": median(latencies),
            "p99_latency_s": latencies[int(0.99 * (len(latencies) - 1) + 0.5)],
        }
    return figures


def measure(plan: Plan, means: Means, clients: ClientPool, engine: Engine) -> dict[str, dict[str, Figures]]:
    figures = {}
    raise_clients(clients, means.client_lead)
    for company in COMPANY:
        with busy(company):
            figures[company.title] = {"ours": ours(clients, engine, plan), "bare": bare(engine, plan)}
    return figures


def run(repeats: int, names: Sequence[str], out: Path) -> None:
    """Append one JSON line per engine to a file."""
    plans = {name: make_plan(configuration(["+study=chat", *MEANS[name].overrides])) for name in names}
    base = plans[names[0]]
    engines = {q: engine_of(base.config, {"quantization": q}) for q in QUANTIZATIONS}
    cases = [(q, name) for q in QUANTIZATIONS for name in names]
    rng = random.Random(time.time_ns())
    with ExitStack() as stack:
        for plan in plans.values():
            stack.callback(plan.launcher.close)
            plan.launcher.prepare()
        clients, folder = stack.enter_context(ClientPool()), stack.enter_context(TemporaryDirectory())
        for repeat in range(repeats):
            for quantization, name in rng.sample(cases, k=len(cases)):
                plan = plans[name]
                engine = plan.launcher.launch(engines[quantization], Path(folder) / f"{repeat}-{quantization}-{name}")
                try:
                    figures = measure(plan, MEANS[name], clients, engine)
                finally:
                    engine.stop()
                row = {"repeat": repeat, "quantization": quantization, "means": name, "figures": figures}
                print(json.dumps(row), flush=True)
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def report(rows: Sequence[dict[str, Any]], command: str) -> str:
    lines = [
        "# Who comes first on the processors", "", provenance(command), "",
        "Medians of the repeats; in brackets the least and the largest of them, not an interval. The chat study's load "
        "of four users; a new engine for each means and repeat, in random order; other programs are endless loops, in "
        "sessions of their own or in the study's. *Ours*: the load's own clients. *Bare*: a client that takes some 3 % "
        "of a processor and is served at once, as one on another machine would be.", "",
        "| recipe | clients protected by | other programs | sent late, P99, ms | ours, 1/s | bare, 1/s | ours, P99, ms "
        "| bare, P99, ms |", f"|{'---|' * 8}",
    ]  # fmt: skip
    for quantization, name, company in itertools.product(QUANTIZATIONS, MEANS, COMPANY):
        matching = [
            r["figures"][company.title] for r in rows if (r["quantization"], r["means"]) == (quantization, name)
        ]
        if matching:
            cells = [quantization, MEANS[name].title, company.title, *_cells(matching)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(matching: Sequence[dict[str, Figures]]) -> list[str]:
    columns = (
        ("ours", "send_lag_p99_s", 1000), ("ours", "qps", 1), ("bare", "qps", 1),
        ("ours", "p99_latency_s", 1000), ("bare", "p99_latency_s", 1000),
    )  # fmt: skip
    return [_spread([m[who].get(name) for m in matching], scale) for who, name, scale in columns]


def _spread(values: Sequence[float | None], scale: float) -> str:
    numbers = [scale * value for value in values if value is not None]
    missing = f"; {len(values) - len(numbers)} without" if len(numbers) < len(values) else ""
    return f"{median(numbers):.3g} [{min(numbers):.3g}, {max(numbers):.3g}]{missing}" if numbers else "no answer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--means", default=",".join(MEANS))
    parser.add_argument("--rows", type=Path, default=Path("priority.jsonl"))
    arguments = parser.parse_args()
    require_quiet()
    run(arguments.repeats, arguments.means.split(","), arguments.rows)
    rows = [json.loads(line) for line in arguments.rows.read_text(encoding="utf-8").splitlines()]
    repeats = max(Counter((r["quantization"], r["means"]) for r in rows).values())
    text = report(rows, f"python -m benchmarks.client_priority --repeats {repeats}")
    (RESULTS / "priority.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
