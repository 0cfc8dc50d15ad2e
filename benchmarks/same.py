"""A/A: the same configuration measured again and again on one live engine. How often is it "better" than itself?

Usage: python -m benchmarks.same [--pairs 20]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, configuration, engine_of, provenance, require_quiet
from objectives import Estimate
from objectives.intervals import proportion_interval
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.engine.pool import EnginePool
from optimize.evaluate import Evaluator
from optimize.ledger import Ledger, TrialRecord
from optimize.load.crew import Crew
from optimize.outcome import Completed
from optimize.plan import Plan, make_plan
from optimize.recommend import Candidate, gain_estimate
from optimize.report.format import figure

METRICS = ("qps", "output_tokens_per_s", "p50_latency_s", "p99_latency_s", "tpot_s", "bleu")


def measure(number: int, config: TrialConfig, plan: Plan, evaluator: Evaluator) -> Candidate:
    """Measure once more, as a trial of a study would."""
    record = TrialRecord("same", number, "search", {}, {}, dict(plan.signature))
    outcome = evaluator.evaluate(config, record)
    if not isinstance(outcome, Completed):
        raise SystemExit(f"measurement {number}: {outcome.reason}")
    shown = "  ".join(f"{name} {figure(outcome.estimates[name])}" for name in METRICS[:4])
    print(f"{number}: {shown}{'  disturbed: ' + '; '.join(record.disturbed) if record.disturbed else ''}", flush=True)
    return Candidate(number, {}, dict(outcome.estimates), True)


def verdicts(pairs: Sequence[tuple[Candidate, Candidate]], plan: Plan, metric: str) -> int:
    """How many pairs are called different, one way or the other: their gain's interval leaves out 1."""
    direction = plan.metrics[metric].direction
    gains = [gain_estimate(direction, b, a, metric) for a, b in pairs]
    return sum(not e.low <= 1 <= e.high for e in gains)


def table(found: Sequence[Candidate], plan: Plan) -> str:
    neighbours = list(zip(found[::2], found[1::2], strict=True))
    every = list(itertools.combinations(found, 2))
    lines = [
        f'| metric | called different, of {len(neighbours)} interleaved pairs | "better", of these | '
        f"called different, of all {len(every)} pairs | spread of the values, and of their intervals |",
        "|---|---|---|---|---|",
    ]
    for metric in METRICS:
        n, all_n = verdicts(neighbours, plan, metric), verdicts(every, plan, metric)
        share, low, high = proportion_interval(n, len(neighbours))
        lines.append(
            f"| {metric} | {n}: {share:.0%} [{low:.0%}, {high:.0%}] | {share / 2:.1%} | {all_n / len(every):.1%} | "
            f"{_spread([c.estimates[metric] for c in found])} |"
        )
    return "\n".join(lines)


def _spread(estimates: Sequence[Estimate]) -> str:
    """How much the values differ from one another, beside what their intervals lead one to expect."""
    values = [e.value for e in estimates]
    mean = sum(values) / len(values)
    seen = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    said = sum((e.high - e.low) / 2 / 1.96 for e in estimates) / len(estimates)
    return f"{seen / mean:.1%}, {said / mean:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    pairs = parser.parse_args().pairs
    require_quiet()
    with TemporaryDirectory() as folder:
        plan = make_plan(configuration(["+study=chat", f"output_dir={folder}"]))
        engine: EngineConfig = engine_of(plan.config, {"quantization": "fp16", "batch_size": 16})
        config = TrialConfig(engine, RequestConfig())
        with Crew() as crew, EnginePool(plan.launcher, Path(folder)) as pool:
            evaluator = Evaluator(plan, pool, crew, Ledger(plan.folder), lambda _: None)
            measure(-1, config, plan, evaluator)  # what an engine does once, it has done then
            found = [measure(number, config, plan, evaluator) for number in range(2 * pairs)]
    text = table(found, plan)
    print(text)
    what = (
        "One live engine (FP16, batch 16, the chat study's load) measured again and again. Two measurements are called "
        "different where the interval of their ratio leaves out 1, as in a recommendation. Half of the false verdicts "
        'say "better". All pairs are not independent of each other: their share has no interval.'
    )
    head = "# The same configuration against itself\n\n" + provenance(f"python -m benchmarks.same --pairs {pairs}")
    (RESULTS / "same.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
