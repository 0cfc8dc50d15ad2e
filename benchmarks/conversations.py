"""What prefix caching gains where conversations are sent turn by turn: a study with caching as its one knob, live.

The conversations are written in the form of ShareGPT by `demo.traffic`, and read as any such file is.

Usage: python -m benchmarks.conversations [--rounds 3] [--shared-tokens 0] [--think-s 1] [--cache .cache]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, mean_interval, provenance, require_quiet
from demo.traffic.__main__ import SEED
from demo.traffic.conversations import sharegpt
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.outcome import Role, State
from optimize.report.turns import turn_records, turn_table

NAME, KNOB = "conversations", "enable_prefix_caching"
FIGURES = ("qps", "p50_latency_s", "p99_latency_s", "ttft_p50_s", "ttft_p99_s", "later_ttft_p99_s", "tpot_s")
MAX_TOKENS, USERS, BLOCK = 32, 4, 32


def overrides(dataset: Path, out: Path, options: argparse.Namespace) -> list[str]:
    """The study as words of the command line."""
    shared = f"workload.shared_prefix={{tokens: {options.shared_tokens}, share: 0.8}}"
    return [
        "+study=chat", "model=smollm2", f"study.name={NAME}", f"output_dir={out}", f"cache_dir={options.cache}",
        f"tracking.uri=sqlite:///{out}/mlflow.db", f"tracking.storage=sqlite:///{out}/optuna.db",
        "workload=file", f"workload.path={dataset}", "workload.turns=all", f"workload.max_tokens={MAX_TOKENS}",
        f"workload.think_time={options.think_s}", shared, "workload.in_order=true", "constraints=none",
        "objectives=[qps,p99_latency_s,later_ttft_p99_s]", "+scenario.weights.later_ttft_p99_s=1",
        f"+engine.flags.block_size={BLOCK}", *(f"~search_space.{knob}" for knob in searched(options)),
        f"+search_space.{KNOB}={{_target_: optuna.distributions.CategoricalDistribution, choices: [true, false]}}",
        f"+baseline.{KNOB}=false", "study.trials=2", "study.minutes=60", f"confirm.rounds={options.rounds}",
        "load.window_requests=100",
    ]  # fmt: skip


def searched(options: argparse.Namespace) -> list[str]:
    """The knobs of the study as shipped."""
    from optimize.config.compose import configuration

    return list(configuration(["+study=chat", "model=smollm2", f"cache_dir={options.cache}"]).search_space)


def confirmed(ledger: Ledger, caching: bool) -> list[TrialRecord]:
    """Completed measurements of the confirmation, in their order; the search's own where it was not confirmed."""
    measured = [r for r in ledger.records() if r.state is State.COMPLETED and r.params[KNOB] is caching]
    return [record for record in measured if record.role is Role.CONFIRMATION] or measured


def gains(on: Sequence[TrialRecord], off: Sequence[TrialRecord]) -> list[str]:
    """Each figure with and without the cache, and their ratio within the rounds."""
    lines = ["| figure | with the cache | without | ratio, within the rounds |", "|---|---|---|---|"]
    for name in FIGURES:
        pairs = [(a.estimates[name].value, b.estimates[name].value) for a, b in zip(on, off, strict=False)]
        sides = [shown(mean_interval(side)) for side in zip(*pairs, strict=True)]
        logs = mean_interval([math.log(a / b) for a, b in pairs])
        lines.append(f"| {name} | {' | '.join(sides)} | {shown([math.exp(min(v, 700.0)) for v in logs])} |")
    return lines


def shown(interval: Sequence[float]) -> str:
    mean, low, high = interval
    return f"{mean:.3g} ({low:.3g}–{high:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shared-tokens", type=int, default=0)
    parser.add_argument("--think-s", type=float, default=1.0)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.md")
    options = parser.parse_args()
    require_quiet()
    with TemporaryDirectory() as folder:
        dataset = Path(folder) / "sharegpt.json"
        dataset.write_text(json.dumps(sharegpt(SEED), ensure_ascii=False), encoding="utf-8")
        words = overrides(dataset, Path(folder), options)
        subprocess.run([sys.executable, "-m", "optimize", *words], check=True)
        ledger = Ledger(study_folder(folder, NAME))
        on, off = confirmed(ledger, True), confirmed(ledger, False)
        text = page(ledger, on, off, options)
    print(text)
    options.out.write_text(text, encoding="utf-8")


def page(ledger: Ledger, on: list[TrialRecord], off: list[TrialRecord], options: argparse.Namespace) -> str:
    command = f"python -m benchmarks.conversations --rounds {options.rounds} --think-s {options.think_s:g}"
    command += f" --shared-tokens {options.shared_tokens}" if options.shared_tokens else ""
    prefix = f"; four in five begin with the same {options.shared_tokens} tokens" if options.shared_tokens else ""
    parts = [
        "# Conversations turn by turn, with and without prefix caching",
        provenance(command),
        f"A study with one knob, `{KNOB}`, off in its baseline: SmolLM2-135M-Instruct, {USERS} users who think "
        f"{options.think_s:g} s before each turn, {len(sharegpt(SEED))} conversations in the form of ShareGPT{prefix}, "
        f"answers of at most {MAX_TOKENS} tokens, blocks of {BLOCK} tokens in the KV cache (the default on CPU is 128, "
        f"longer than most prompts). {len(on)} confirming measurements with the cache and {len(off)} without, in turn, "
        "each on a new engine; the requests of all windows together.",
        "## What it gains", "\n".join(gains(on, off)),
        "## By turn, with the cache", "\n".join(turn_table(turn_records(ledger, on))),
        "## By turn, without", "\n".join(turn_table(turn_records(ledger, off))),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
