"""A/A: one configuration, confirmed against itself many times. How often is it "better" than itself?

Usage: python -m benchmarks.aa_test [--confirmations 10]

Each confirmation is what a study does before it recommends: a "baseline" and three "candidates" in three rounds, here
all of them the same configuration on one live engine.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, engine_of, provenance, require_quiet
from objectives import Estimate
from objectives.intervals import proportion_interval
from optimize.config.compose import configuration
from optimize.config.schema import Confirm
from optimize.decision.recommendation import AnswerPairs, Candidate, Rounds, SingleReadings
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.engine.pool import EnginePool
from optimize.evaluation.evaluator import Evaluator
from optimize.formatting import figure
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.outcome import Completed, Role
from optimize.plan import Plan, make_plan

METRICS = ("qps", "output_tokens_per_s", "p50_latency_s", "p99_latency_s", "tpot_s", "bleu")
SCORE = "score"
Readings = dict[int, list[dict[str, Estimate]]]


def measure(number: int, config: TrialConfig, plan: Plan, evaluator: Evaluator) -> dict[str, Estimate]:
    """Measure once more, as a trial of a study would."""
    record = TrialRecord("same", number, Role.CONFIRMATION, {}, {}, dict(plan.signature))
    evaluation = evaluator.evaluate(config, record)
    outcome = evaluation.outcome
    if not isinstance(outcome, Completed):
        raise SystemExit(f"measurement {number}: {outcome.reason}")
    shown = "  ".join(f"{name} {figure(outcome.estimates[name])}" for name in METRICS[:4])
    disturbed = "; ".join(evaluation.disturbances)
    print(f"{number}: {shown}{'  disturbed: ' + disturbed if disturbed else ''}", flush=True)
    return dict(outcome.estimates)


def confirmations(count: int, config: TrialConfig, plan: Plan, evaluator: Evaluator) -> list[Readings]:
    """Candidates (0 is the baseline) and rounds as a study would, `count` times."""
    confirm, rng, series = Confirm(), random.Random(0), []
    numbers, measured = range(confirm.candidates + 1), 0
    measure(-1, config, plan, evaluator)  # what an engine does once, it has done then
    for _ in range(count):
        readings: Readings = {n: [] for n in numbers}
        for _ in range(confirm.rounds):
            for n in rng.sample(numbers, k=len(numbers)):
                readings[n].append(measure(measured, config, plan, evaluator))
                measured += 1
        series.append(readings)
    return series


def evidence(readings: Readings, plan: Plan) -> Rounds:
    directions = {name: m.direction for name, m in plan.metrics.items()}
    same_sample = [name for name, m in plan.metrics.items() if m.same_sample]
    return Rounds(readings, 0, directions, plan.config.scenario.weights, AnswerPairs(same_sample))


def gains(readings: Readings, plan: Plan, metric: str) -> list[Estimate]:
    """Gain of each candidate over the baseline, as a study would report it."""
    rounds = evidence(readings, plan)
    others = [Candidate(n, {}, {}, True) for n in readings if n]
    return [rounds.score(c) if metric == SCORE else rounds.gain(c, metric) for c in others]


def single_gains(readings: Readings, plan: Plan, metric: str) -> list[Estimate]:
    """The same from single readings: each round's candidates against its baseline, by their own intervals."""
    directions = {name: m.direction for name, m in plan.metrics.items()}
    estimates = []
    for cells in zip(*readings.values(), strict=True):
        baseline, *others = [Candidate(n, {}, estimates, True) for n, estimates in enumerate(cells)]
        single = SingleReadings(baseline, directions, plan.config.scenario.weights)
        estimates += [single.score(c) if metric == SCORE else single.gain(c, metric) for c in others]
    return estimates


def contained(series: Sequence[Readings], plan: Plan, metric: str) -> tuple[int, int]:
    """(first readings of the next confirmation inside of their prediction interval, all of them)."""
    hits, n = 0, 0
    for before, after in zip(series, series[1:], strict=False):
        rounds = evidence(before, plan)
        for number in before:
            level, later = rounds.levels(number)[metric], after[number][0][metric].value
            hits, n = hits + (level.low <= later <= level.high), n + 1
    return hits, n


def table(series: Sequence[Readings], plan: Plan) -> str:
    lines = [
        '| figure | confirmed: called different | of these "better" | half-width of a gain, median | '
        "single readings: called different | a reading of the next confirmation within the interval for it |",
        "|---" * 6 + "|",
    ]
    totals = [0, 0, 0]
    for metric in (*METRICS, SCORE):
        confirmed = [e for readings in series for e in gains(readings, plan, metric)]
        single = [e for readings in series for e in single_gains(readings, plan, metric)]
        different = [e for e in confirmed if not e.low <= 1 <= e.high]
        better = sum(e.low > 1 for e in different)
        totals = [totals[0] + len(different), totals[1] + better, totals[2] + len(confirmed)]
        width = sorted(e.high / e.value - 1 for e in confirmed)[len(confirmed) // 2]
        later = "" if metric == SCORE else _share(*contained(series, plan, metric))
        lines.append(
            f"| {metric} | {_share(len(different), len(confirmed))} | {better} | {width:.1%} | "
            f"{_share(sum(not e.low <= 1 <= e.high for e in single), len(single))} | {later} |"
        )
    lines.append(f"| all | {_share(totals[0], totals[2])} | {totals[1]}: {totals[1] / totals[2]:.1%} | | | |")
    return "\n".join(lines)


def _share(hits: int, n: int) -> str:
    share, low, high = proportion_interval(hits, n)
    return f"{hits} of {n}: {share:.0%} [{low:.0%}, {high:.0%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--confirmations", type=int, default=10)
    count = parser.parse_args().confirmations
    require_quiet()
    with TemporaryDirectory() as folder:
        plan = make_plan(configuration(["+study=chat", f"output_dir={folder}"]))
        engine: EngineConfig = engine_of(plan.config, {"quantization": "fp16", "batch_size": 16})
        config = TrialConfig(engine, RequestConfig())
        with ClientPool() as clients, EnginePool(plan.launcher, Path(folder)) as pool:
            evaluator = Evaluator(plan, pool, clients, Ledger(plan.folder), lambda _: None)
            series = confirmations(count, config, plan, evaluator)
    text = table(series, plan)
    print(text)
    what = (
        f"One live engine (FP16, batch 16, the chat study's load). {count} confirmations as a study makes them: three "
        "candidates and the baseline in three rounds, each in a random order, all of them this one configuration. A "
        "candidate is called different where the interval of its gain leaves out 1. Beside it, what single readings, "
        "those of the same rounds, would have said. Comparisons of one confirmation share its baseline, so the "
        "intervals of these shares are somewhat too narrow."
    )
    head = "# The same configuration against itself\n\n" + provenance(
        f"python -m benchmarks.aa_test --confirmations {count}"
    )
    (RESULTS / "same.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
