"""Do three load generators agree on one live engine? Same prompts, same number of users, in turn.

Usage: python -m benchmarks.agreement [--rounds 5] [--guidellm PATH/TO/guidellm]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, configuration, engine_of, mean_interval, provenance, require_quiet
from benchmarks.peers import FIGURES, Asked, guidellm, vllm_bench, write_prompts
from objectives import Measurement
from optimize.engine.base import Engine, RequestConfig
from optimize.interference import Machine, disturbances
from optimize.load.arrivals import ClosedLoop
from optimize.load.crew import Crew
from optimize.load.generator import Traffic, run_load
from optimize.plan import make_plan
from optimize.schema import Guard, Load
from optimize.telemetry import Telemetry
from optimize.workload import Workload, load_workload

USERS, REQUESTS = 4, 300
OURS = "this project"
Run = Mapping[str, float]


def ours(engine: Engine, workload: Workload, crew: Crew) -> Run:
    """Mean figures over a window that is asked to hold as many requests as the peers send."""
    load = Load(warmup_s=0.5, warmup_max_s=3, window_min_s=1, window_requests=REQUESTS, window_max_s=120)
    result = run_load(crew, engine, Traffic(workload, RequestConfig(), ClosedLoop(USERS), load), first_answers=False)
    measured = Measurement(result.records, result.window_start_s, result.window_end_s, {})
    answers = measured.answered
    return {
        "qps": len(measured.completed_in_window) / measured.window_s,
        "ttft_s": statistics.fmean(r.ttft_s for r in answers if r.ttft_s is not None),
        "tpot_s": statistics.fmean(r.tpot_s for r in answers if r.tpot_s is not None),
        "latency_s": statistics.fmean(r.latency_s for r in answers),
    }


def report(runs: Mapping[str, Sequence[Run]]) -> str:
    """Each generator's figures, and its ratio to this project's within the same round."""
    lines = [
        "| figure | generator | mean of the rounds | ratio to this project, same round | verdict |",
        "|---" * 5 + "|",
    ]
    for figure in FIGURES:
        for name, found in runs.items():
            mean, low, high = mean_interval([run[figure] for run in found])
            shown = f"{mean:.4g} [{low:.4g}, {high:.4g}]"
            if name == OURS:
                lines.append(f"| {figure} | {name} | {shown} | | |")
                continue
            logs = [math.log(theirs[figure] / own[figure]) for theirs, own in zip(found, runs[OURS], strict=True)]
            ratio, below, above = (math.exp(v) for v in mean_interval(logs))
            if abs(ratio - 1) <= 0.05:
                verdict = "within 5 %"
            else:
                verdict = "inside the interval" if below <= 1 <= above else "differs"
            lines.append(f"| {figure} | {name} | {shown} | {ratio:.3f} [{below:.3f}, {above:.3f}] | {verdict} |")
    return "\n".join(lines)


def undisturbed(engine: Engine, run: Callable[[], Run], own: Callable[[], list[int]]) -> Run:
    """Run it until nothing else disturbed the machine meanwhile; a peer's own processes cannot be told from others."""
    guard = Guard(other_cores_max=1.0)
    while True:
        with Telemetry(engine, Machine(lambda: [*engine.pids, *own()])).sampling() as telemetry:
            found = run()
        series = telemetry.series(0.0)
        if not disturbances(Measurement([], 0.0, math.inf, {}, series), guard):
            return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--guidellm")
    asked_for = parser.parse_args()
    require_quiet()
    runs: dict[str, list[Run]] = defaultdict(list)
    with TemporaryDirectory() as folder:
        config = configuration(["+study=chat", f"output_dir={folder}"])
        plan = make_plan(config)
        workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
        prompts = write_prompts(workload.prompts, Path(folder))
        plan.launcher.prepare()
        engine = plan.launcher.launch(
            engine_of(config, {"quantization": "fp16", "batch_size": 16}), Path(folder) / "log"
        )
        asked = Asked(engine.endpoint, config.model.path, prompts, REQUESTS, workload.max_tokens, users=USERS)
        try:
            with Crew() as crew:
                generators: dict[str, Callable[[], Run]] = {
                    OURS: lambda: ours(engine, workload, crew),
                    "vllm bench serve": lambda: vllm_bench(asked, Path(folder)),
                }
                if asked_for.guidellm:
                    generators["GuideLLM"] = lambda: guidellm(asked, Path(folder), asked_for.guidellm)
                generators[OURS]()  # warms the engine up for all
                rng = random.Random(0)
                for number in range(asked_for.rounds):
                    for name in rng.sample(list(generators), k=len(generators)):
                        engine.reset()
                        runs[name].append(undisturbed(engine, generators[name], lambda: crew.pids))
                        shown = {figure: round(runs[name][-1][figure], 4) for figure in FIGURES}
                        print(f"round {number + 1}, {name}: {shown}", flush=True)
        finally:
            engine.stop()
            plan.launcher.close()
    text = report({name: runs[name] for name in generators})
    print(text)
    what = (
        f"One live engine (FP16, batch 16), {USERS} users, {REQUESTS} requests of the chat workload to each generator "
        "in turn, in a random order within each round, the prefix cache reset before each. Times count from when a "
        "request was sent, which with users who wait is when it was due. Ratios are geometric means over the rounds."
    )
    peer = " --guidellm guidellm" if asked_for.guidellm else ""
    command = f"python -m benchmarks.agreement --rounds {asked_for.rounds}{peer}"
    head = "# Agreement with other load generators\n\n" + provenance(command)
    (RESULTS / "agreement.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
