"""Do confirmed figures hold later? Short studies, and for each an independent measurement of its recommendation.

Usage: python -m benchmarks.replication [--studies 10] [--trials 8] [--folder FOLDER]

Every study has a seed of its own. After all of them, in another order, each recommended configuration is measured once
more on a new engine: how often does it fall into the interval that the confirmation gave for it, and how often into the
interval of the search's single reading? A measurement that its own guard refuses is repeated. With a folder to keep
the studies in, the same command goes on after an interrupt, and when it had ended it measures the picks once more.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, provenance, require_quiet
from objectives import Estimate
from objectives.intervals import proportion_interval
from optimize.config.compose import configuration
from optimize.decision.recommendation import Candidate
from optimize.engine.pool import EnginePool
from optimize.evaluation.answers import Answers
from optimize.evaluation.evaluator import Evaluator
from optimize.formatting import figure, value_of
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.outcome import Completed, Role
from optimize.plan import Plan, make_plan
from optimize.quantize.checkpoints import make_checkpoints
from optimize.study.confirmation import recommendation
from optimize.study.lifecycle import stored_studies

_TRIES = 3
METRICS = ("qps", "p99_latency_s", "p50_latency_s", "memory_bytes", "bleu")


def overrides(number: int, trials: int, folder: Path) -> list[str]:
    return [
        "+study=chat", f"study.name=chat-{number}", f"study.seed={number}", f"study.trials={trials}",
        f"output_dir={folder}",
    ]  # fmt: skip


def search(number: int, trials: int, folder: Path) -> Candidate:
    """A study's confirmed pick."""
    command = [sys.executable, "-m", "optimize", *overrides(number, trials, folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"study {number}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (study,) = [s for s in stored_studies(f"sqlite:///{folder}/optuna.db") if s.study_name == f"chat-{number}"]
    result = recommendation(study)
    if result is None or not result.rounds:
        raise SystemExit(f"study {number} ended without a confirmed recommendation")
    print(f"study {number}: {dict(result.pick.params)}, score {result.score.value:.2f}", flush=True)
    return result.pick


def later(pick: Candidate, plan: Plan) -> dict[str, Estimate]:
    """A study's pick, measured once more on a new engine, quality scored on all that the study was answered.

    Where that gives no figures (a window that does not settle), on another engine, a few times; it is said each time.
    """
    checkpoints, _ = make_checkpoints(
        plan.config.model, plan.space.recipes_needed(), Path(plan.config.cache_dir), lambda _: None
    )
    config = plan.space.vllm_defaults(checkpoints) if pick.baseline else plan.space.resolve(pick.params, checkpoints)
    record = TrialRecord("later", 9999, Role.MEASUREMENT, dict(pick.params), {}, dict(plan.signature))
    ledger = Ledger(plan.folder)
    for _ in range(_TRIES):
        with ClientPool() as clients, EnginePool(plan.launcher, plan.folder / "engines") as pool:
            evaluator = Evaluator(plan, pool, clients, ledger, lambda _: None, Answers(ledger))
            outcome = evaluator.evaluate(config, record).outcome
        if isinstance(outcome, Completed):
            return dict(outcome.estimates)
        print(f"{plan.config.study.name}'s pick: {outcome.reason}", flush=True)
    raise SystemExit(f"{plan.config.study.name}'s pick gave no figures {_TRIES} times")


def report(picks: dict[int, Candidate], measurements: dict[int, dict[str, Estimate]]) -> str:
    lines = [
        "| figure | later reading within the confirmed interval | within the first reading's own interval | "
        "first reading, as a multiple of the later one |",
        "|---|---|---|---|",
    ]
    for metric in METRICS:
        inside = sum(_inside(pick.estimates[metric], measurements[n][metric]) for n, pick in picks.items())
        first = sum(_inside(pick.first[metric], measurements[n][metric]) for n, pick in picks.items())
        ratios = [pick.first[metric].value / measurements[n][metric].value for n, pick in picks.items()]
        shares = f"{_share(inside, len(picks))} | {_share(first, len(picks))}"
        lines.append(f"| {metric} | {shares} | {statistics.fmean(ratios):.2f} times |")
    return "\n".join(lines)


def each(picks: dict[int, Candidate], measurements: dict[int, dict[str, Estimate]]) -> str:
    """Every pick: its confirmed figures, and the later reading."""
    lines = [
        "| pick | " + " | ".join(f"{m}: confirmed | later" for m in METRICS) + " |",
        "|---" * (1 + 2 * len(METRICS)) + "|",
    ]
    for n, pick in picks.items():
        pairs = (f"{figure(pick.estimates[m])} | {value_of(measurements[n][m])}" for m in METRICS)
        lines.append(f"| {n}: {', '.join(map(str, pick.params.values()))} | " + " | ".join(pairs) + " |")
    return "\n".join(lines)


def missed(picks: dict[int, Candidate], measurements: dict[int, dict[str, Estimate]]) -> str:
    """The later readings outside of the confirmed interval, each beside it."""
    lines = [
        f"- study {n}, {pick.params['quantization']}, {metric}: {figure(measurements[n][metric])} "
        f"where {figure(pick.estimates[metric])} was confirmed"
        for metric in METRICS
        for n, pick in picks.items()
        if not _inside(pick.estimates[metric], measurements[n][metric])
    ]
    return "\n".join(["Outside the confirmed interval:", "", *lines]) if lines else "None fell outside."


def _inside(interval: Estimate, reading: Estimate) -> bool:
    return interval.low <= reading.value <= interval.high


def _share(hits: int, n: int) -> str:
    _, low, high = proportion_interval(hits, n)
    return f"{hits} of {n} [{low:.0%}, {high:.0%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where studies are kept; a temporary one if none is given")
    args = parser.parse_args()
    require_quiet()
    numbers = range(args.studies)
    with TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        picks = {number: search(number, args.trials, folder) for number in numbers}
        measurements = {}
        for number in random.Random(0).sample(numbers, k=len(numbers)):
            plan = make_plan(configuration(overrides(number, args.trials, folder)))
            measurements[number] = later(picks[number], plan)
        text = f"{report(picks, measurements)}\n\n{missed(picks, measurements)}\n\n{each(picks, measurements)}"
    print(text)
    command = f"python -m benchmarks.replication --studies {args.studies} --trials {args.trials}"
    what = (
        f"{args.studies} chat studies of {args.trials} trials each, every one with another seed; afterwards each "
        "pick once more, on a new engine, in a random order."
    )
    head = "# Do confirmed figures hold later?\n\n" + provenance(command)
    (RESULTS / "confirmed.md").write_text("\n\n".join([head, what, text]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
