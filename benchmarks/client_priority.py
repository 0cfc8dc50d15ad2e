"""Who comes first on the processors: the same engines and load, the engine giving way to its clients or not.

Usage: python -m benchmarks.client_priority [--repeats 5]

Writes docs/results/priority.md. Every repeat measures every case once, in a random order, on a new engine; what a study
would drop because its requests were sent late is kept here, since lateness is what is looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, engine_of, provenance, require_quiet
from objectives import Measurement
from optimize.config.compose import configuration
from optimize.engine.base import RequestConfig
from optimize.evaluation.estimates import estimate_all
from optimize.load.client_pool import ClientPool
from optimize.load.generator import LoadResult, Traffic, run_load
from optimize.plan import Plan, make_plan

NICENESSES, QUANTIZATIONS = (0, 19), ("fp16", "int8")
METRICS = ("qps", "p50_latency_s", "p99_latency_s", "ttft_p99_s")
Case = tuple[str, int]
Figures = dict[str, float]


def figures_of(result: LoadResult, plan: Plan) -> Figures:
    measured = Measurement(result.records, result.window_start_s, result.window_end_s, {})
    found = estimate_all(measured, {name: plan.metrics[name] for name in METRICS})
    return {**{name: e.value for name, e in found.items()}, "send_lag_p99_s": result.audit.send_lag_p99_s}


def run(repeats: int) -> dict[Case, list[Figures]]:
    cases = [(quantization, niceness) for quantization in QUANTIZATIONS for niceness in NICENESSES]
    found: dict[Case, list[Figures]] = {case: [] for case in cases}
    plans = {n: make_plan(configuration(["+study=chat", f"engine.niceness={n}"])) for n in NICENESSES}
    engines = {q: engine_of(plans[0].config, {"quantization": q}) for q in QUANTIZATIONS}
    rng = random.Random(0)
    with ExitStack() as held:
        for plan in plans.values():
            held.callback(plan.launcher.close)
            plan.launcher.prepare()
        clients, folder = held.enter_context(ClientPool()), held.enter_context(TemporaryDirectory())
        for repeat in range(repeats):
            for quantization, niceness in rng.sample(cases, k=len(cases)):
                plan = plans[niceness]
                load = dataclasses.replace(plan.config.load, window_min_s=plan.config.load.window_precise_s)
                log = Path(folder) / f"{repeat}-{quantization}-{niceness}"
                engine = plan.launcher.launch(engines[quantization], log)
                try:
                    result = run_load(clients, engine, Traffic(plan.workload, RequestConfig(), plan.arrivals, load))
                finally:
                    engine.stop()
                found[quantization, niceness].append(figures_of(result, plan))
                print(repeat, quantization, niceness, found[quantization, niceness][-1], flush=True)
    return found


def report(found: dict[Case, list[Figures]], command: str) -> str:
    heads = ("quantization", "`engine.niceness`", "sent late (P99)", *METRICS)
    lines = [
        "# Who comes first on the processors", "", provenance(command), "",
        "Median of the repeats; in brackets the least and the largest of them, not an interval. The chat study's load; "
        "interleaved, a new engine each.", "",
        f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}",
    ]  # fmt: skip
    for (quantization, niceness), repeats in found.items():
        cells = [_spread([r[name] for r in repeats], name) for name in ("send_lag_p99_s", *METRICS)]
        lines.append(f"| {quantization} | {niceness} | {' | '.join(cells)} |")
    lines += [
        "", "Where the engine does not give way (0), its threads keep its own clients off the processors: what is then "
        "read as latency is in part the client's wait. Somebody who asks from another machine does not have it.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _spread(values: list[float], name: str) -> str:
    scale, unit = (1000, " ms") if name.endswith("_s") else (1, " 1/s")
    return f"{median(values) * scale:.3g} [{min(values) * scale:.3g}, {max(values) * scale:.3g}]{unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    require_quiet()
    text = report(run(asked.repeats), f"python -m benchmarks.client_priority --repeats {asked.repeats}")
    (RESULTS / "priority.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
