"""Cost of a trial beyond its measurement, here and with `vllm bench sweep serve`, over the same grid in one run.

Half of the peer's sweep runs before this project's study and half after it, so that a drift of the machine hits both.
Both load the engine with four users and measure 100 answers a point. The peer's imports before its sweep are left out,
and its engines are not reset between points; both favour it. Usage: python -m benchmarks.trial_cost [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.common import RESULTS, engine_of, provenance, require_quiet
from optimize.config.compose import configuration
from optimize.engine.process import free_port
from optimize.ledger import Ledger
from optimize.report.time_spent import measuring_s

USERS, ANSWERS = 4, 100
BATCH_SIZES, MAX_TOKENS = (4, 16, 64), (16, 32)


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration, measured once.

    Attributes:
        settings: (quantization, batch_size, max_tokens).
        measuring_s: Seconds under load, warm-up included.
        qps: Answers per second.
    """

    settings: tuple[str, int, int]
    measuring_s: float
    qps: float


@dataclass(frozen=True, slots=True)
class Side:
    """All points of one tool, and the seconds they took together."""

    points: Sequence[Point]
    wall_s: float

    @property
    def measuring_s(self) -> float:
        """Seconds per point under load."""
        return statistics.fmean(p.measuring_s for p in self.points)

    @property
    def overhead_s(self) -> float:
        """Seconds per point beyond measuring."""
        return self.wall_s / len(self.points) - self.measuring_s


def overrides(folder: str, batch_sizes: Sequence[int]) -> list[str]:
    """The grid as a study of this project."""
    return [
        "study.name=trial_cost", f"output_dir={folder}/ours", "sampler=grid", "study.trials=99", "confirm.candidates=0",
        "~search_space.beam_size", "~search_space.workers", "search_space.quantization.choices=[fp16,int8]",
        "+baseline.quantization=fp16",
        "~search_space.batch_size",
        "+search_space.max_num_seqs={_target_: optuna.distributions.CategoricalDistribution, "
        f"choices: [{','.join(map(str, batch_sizes))}]}}",
        "+search_space.max_tokens={_target_: optuna.distributions.CategoricalDistribution, "
        f"choices: [{','.join(map(str, MAX_TOKENS))}]}}",
        "+baseline.max_tokens=32", f"load.arrivals.users={USERS}", "load.warmup_s=1", "load.warmup_requests=8",
        "load.window_min_s=1", f"load.window_requests={ANSWERS}", "load.window_max_s=60",
    ]  # fmt: skip


def run_ours(folder: str, batch_sizes: Sequence[int]) -> Side:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "optimize", *overrides(folder, batch_sizes)], check=True, stdout=subprocess.DEVNULL
    )
    whole_s = time.monotonic() - began
    records = [r for r in Ledger(Path(folder) / "ours/studies/trial_cost").records() if r.role == "search"]
    points = [
        Point(
            (r.params["quantization"], r.params["max_num_seqs"], r.params["max_tokens"]),
            measuring_s(r), r.estimates["qps"].value,
        )
        for r in records
    ]  # fmt: skip
    # The baseline is a point that the peer does not have: its own seconds are taken off, the study's set-up is not.
    (baseline,) = [r for r in Ledger(Path(folder) / "ours/studies/trial_cost").records() if r.role == "baseline"]
    return Side(points, whole_s - baseline.seconds["wall"])


def run_peer(folder: str, batch_sizes: Sequence[int], settings: Sequence[tuple[str, int]], part: str) -> Side:
    """One sweep over these engine settings and all request settings."""
    config = configuration(overrides(folder, batch_sizes))
    port = free_port()
    serve_params = []
    recipes: dict[str, str] = {}
    for quantization, batch_size in settings:
        params = {"quantization": quantization, "max_num_seqs": batch_size, "max_tokens": 1}
        engine = engine_of(config, params)
        recipes[engine.checkpoint] = quantization
        serve_params.append({"model": engine.checkpoint, **dict(engine.flags)})
    bench_params = [{"custom_output_len": n} for n in MAX_TOKENS]
    for name, content in (("serve", serve_params), ("bench", bench_params)):
        Path(folder, f"{name}-{part}.json").write_text(json.dumps(content), encoding="utf-8")
    prompts = Path(folder) / "prompts.jsonl"
    rows = Path(config.workload.path).read_text(encoding="utf-8").splitlines()
    prompts.write_text("\n".join(json.dumps({"prompt": json.loads(row)["prompt"]}) for row in rows), encoding="utf-8")
    bench = (
        f"{sys.executable} -m benchmarks.peer_sweep bench --backend openai --base-url http://127.0.0.1:{port} "
        f"--served-model-name model --model {config.model.path} --dataset-name custom --dataset-path {prompts} "
        f"--skip-chat-template --num-prompts {ANSWERS} --max-concurrency {USERS} --temperature 0"
    )
    command = [
        sys.executable, "-m", "benchmarks.peer_sweep", "sweep",
        "--serve-cmd",
        f"{sys.executable} -m optimize.engine.serve --host 127.0.0.1 --port {port} --served-model-name model",
        "--bench-cmd", bench, "--after-bench-cmd", "true", "--num-runs", "1",
        "--serve-params", f"{folder}/serve-{part}.json", "--bench-params", f"{folder}/bench-{part}.json",
        "--output-dir", f"{folder}/peer", "--experiment-name", part,
    ]  # fmt: skip
    env = {
        **os.environ,
        "VLLM_NO_USAGE_STATS": "1",
        **{k: str(v) for k, v in config.hardware.env.items() if k != "VLLM_CPU_KVCACHE_SPACE"},
    }
    done = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True)
    _end_strays()
    points = [_peer_point(json.loads(p.read_text()), recipes) for p in Path(folder, "peer", part).glob("*/run=*.json")]
    return Side(points, float(done.stdout.splitlines()[-1]))


def _peer_point(run: dict[str, Any], recipes: dict[str, str]) -> Point:
    settings = (recipes[run["model"]], int(run["max_num_seqs"]), int(run["custom_output_len"]))
    return Point(settings, float(run["duration"]), float(run["request_throughput"]))


def _end_strays() -> None:
    """The peer kills the process group of its server only; the engine's own processes can outlive that."""
    for process in psutil.process_iter(["cmdline"]):
        if "VLLM::" in " ".join(process.info["cmdline"] or []):
            process.kill()
            process.wait()


def report(ours: Side, peer: Side) -> str:
    """The table, in Markdown."""
    lines = [
        "| | this project | `vllm bench sweep serve` | ratio |",
        "|---|---|---|---|",
        f"| points (engine settings × request settings) | {len(ours.points)} | {len(peer.points)} | |",
    ]
    rows = [
        ("wall time per point", ours.wall_s / len(ours.points), peer.wall_s / len(peer.points)),
        ("of it measuring, warm-up included", ours.measuring_s, peer.measuring_s),
        ("overhead per point", ours.overhead_s, peer.overhead_s),
    ]
    lines += [f"| {name} | {a:.2f} s | {b:.2f} s | 1 : {b / a:.1f} |" for name, a, b in rows]
    lines += ["", "| quantization | max_num_seqs | max_tokens | QPS here | QPS there |", "|---|---|---|---|---|"]
    theirs = {p.settings: p for p in peer.points}
    for point in sorted(ours.points, key=lambda p: p.settings):
        quantization, batch_size, max_tokens = point.settings
        lines.append(
            f"| {quantization} | {batch_size} | {max_tokens} | {point.qps:.1f} | {theirs[point.settings].qps:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one batch size only, nothing written")
    quick = parser.parse_args().quick
    require_quiet()
    batch_sizes = BATCH_SIZES[:1] if quick else BATCH_SIZES
    settings = [(q, b) for b in batch_sizes for q in ("fp16", "int8")]
    half = len(settings) // 2
    with TemporaryDirectory() as folder:
        first = run_peer(folder, batch_sizes, settings[:half], "first")
        ours = run_ours(folder, batch_sizes)
        second = run_peer(folder, batch_sizes, settings[half:], "second")
    table = report(ours, Side([*first.points, *second.points], first.wall_s + second.wall_s))
    print(table)
    if not quick:
        head = "# Overhead of a trial\n\n" + provenance("python -m benchmarks.trial_cost")
        what = (
            f"The same {len(ours.points)} configurations through both tools: {USERS} users, {ANSWERS} answers a point. "
            "This project's wall time includes the set-up of the study (importing vLLM, the defaults' engine, MLflow), "
            "the sampler, the estimates and their tracking; the peer's leaves out the imports before its sweep."
        )
        (RESULTS / "trial_cost.md").write_text(f"{head}\n\n{what}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
