"""The guard on live engines: the same release on both sides, another one, one that is slower, and a broken checkpoint.

Usage: python -m benchmarks.guard_live SCENARIO [--guards 20] [--python OTHER] [--minutes 20] [OVERRIDES ...]

Scenarios: `same` (how often does it fail?), `release` (--python: an environment with another vLLM), `slow` (the other
side's engine stands still for a fifth of the time), `broken` (a checkpoint of which one layer is lost). Each guard is
the command in a process of its own; what it says is added to docs/results/guard.jsonl, and the page is written from all
of them, whenever and wherever they were measured. OVERRIDES are those of `python -m optimize.guard +study=chat`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
from safetensors.numpy import load_file, save_file

from benchmarks.common import RESULTS, require_quiet
from objectives.intervals import proportion_interval
from optimize.config.compose import configuration

FOLDER = Path("mlruns/guard_live")
ROW = ["+study=chat", "+at.quantization=fp16"]
MARK, SLOWED = "GUARD_BENCHMARK_SLOWED", 0.2
_CYCLE_S, _LOOK_S = 0.1, 0.5
_LOST_LAYER = "model.layers.1."
TITLES = {
    "same": "the same release on both sides", "release": "another release of vLLM",
    "slow": f"the engine stands still for {100 * SLOWED:.0f} % of the time", "broken": "a checkpoint that lost a layer",
}  # fmt: skip


class Brake(threading.Thread):
    """Stops the marked engines for a share of each cycle, so that they lose that share of their speed.

    Attributes:
        stops: How often an engine was stopped.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.stops = 0

    def run(self) -> None:
        pids: list[int] = []
        looked = 0.0
        while not self.ended.is_set():
            if time.monotonic() - looked > _LOOK_S:
                pids, looked = marked(), time.monotonic()
            self.stops += _signal(pids, signal.SIGSTOP)
            time.sleep(SLOWED * _CYCLE_S)
            _signal(pids, signal.SIGCONT)
            time.sleep((1 - SLOWED) * _CYCLE_S)


def marked() -> list[int]:
    """The processes of vLLM that compute, of engines whose program was started with the mark.

    A process that is renamed, as vLLM's are, has no environment to read any more, and a forked one has that of its
    parent's start: engines start cold here, and their program is asked.
    """
    pids = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if "VLLM::" in " ".join(process.info["cmdline"] or []) and any(map(_has_mark, process.parents())):
                pids.append(process.pid)
    return pids


def _has_mark(process: psutil.Process) -> bool:
    try:
        return MARK in process.environ()
    except psutil.Error:
        return False


def _signal(pids: Sequence[int], number: signal.Signals) -> int:
    """Signal them; returns how many live."""
    living = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            living += 1
    return living


@contextmanager
def braked() -> Iterator[None]:
    """Marked engines are slowed down within; at the end there must have been some."""
    brake = Brake()
    brake.start()
    try:
        yield
    finally:
        brake.ended.set()
        brake.join()
    assert brake.stops, "no engine was slowed down"


def broken_checkpoint(folder: Path) -> Path:
    """A copy of the demo's model in which one layer computes nothing."""
    source, target = Path(configuration(["+study=chat"]).model.path), folder / "broken"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    for path in target.glob("*.safetensors"):
        tensors = load_file(path)
        lost = {name: tensor * 0 if name.startswith(_LOST_LAYER) else tensor for name, tensor in tensors.items()}
        save_file(lost, path, metadata={"format": "pt"})
    return target


def words_of(scenario: str, asked: argparse.Namespace) -> list[str]:
    """The words that make the other side what the scenario says."""
    if scenario == "release":
        if not asked.python:
            raise SystemExit("release needs --python: the interpreter of an environment with another vLLM")
        return [f"guard.python={asked.python}"]
    if scenario == "slow":
        return ["engine.start=cold", f"+guard.env.{MARK}=1"]
    return [f"guard.model={broken_checkpoint(asked.folder)}"] if scenario == "broken" else []


def guard(words: Sequence[str], out: Path) -> dict[str, Any]:
    """One guard in a process of its own: what its JSON says, and its exit code."""
    before = set(out.glob("studies/guard-*"))
    command = [sys.executable, "-m", "optimize.guard", *words, f"output_dir={out}"]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    (folder,) = set(out.glob("studies/guard-*")) - before
    content: dict[str, Any] = json.loads((folder / "report/guard.json").read_text(encoding="utf-8"))
    return {**content, "exit_code": done.returncode}


def without_place(command: str, python: str | None) -> str:
    """A guard's command without the folder of the other environment, which is a matter of one machine."""
    return command if python is None else command.replace(python, "OTHER")


def table(results: Sequence[dict[str, Any]]) -> str:
    """One line per scenario and machine."""
    lines = [
        "| other side | guards | PASS | FAIL | INCONCLUSIVE | minutes, median | rounds, median | measured |",
        "|---" * 8 + "|",
    ]
    for (scenario, place), own in _groups(results).items():
        verdicts = [_share([r["verdict"] == v for r in own]) for v in ("pass", "fail", "inconclusive")]
        minutes, rounds = (statistics.median(r[name] for r in own) for name in ("seconds", "rounds"))
        days = " to ".join(dict.fromkeys(f(r["date"][:10] for r in own) for f in (min, max)))
        cells = [TITLES[scenario], str(len(own)), *verdicts, f"{minutes / 60:.1f}", f"{rounds:.0f}", f"{days}, {place}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _groups(results: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Results by scenario, and by the machine and release that they were measured on."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for scenario in TITLES:
        for result in results:
            if result["scenario"] == scenario:
                place = f"{result['signature']['machine']}; {result['signature']['engine']}"
                groups.setdefault((scenario, place), []).append(result)
    return groups


def _share(hits: Sequence[bool]) -> str:
    value, low, high = proportion_interval(sum(hits), len(hits))
    return f"{100 * value:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def objectives(results: Sequence[dict[str, Any]]) -> str:
    """One line per scenario, machine and objective, in the order of `table`."""
    head = (
        "| other side | objective | PASS | FAIL | INCONCLUSIVE | ratio, median | smallest change it could see, median |"
    )
    lines = [head, "|---" * 7 + "|"]
    for (scenario, _), group in _groups(results).items():
        judged = [j for r in group for j in r["objectives"]]
        for name in dict.fromkeys(j["objective"] for j in judged):
            own = [j for j in judged if j["objective"] == name]
            counts = [str(sum(j["verdict"] == v for j in own)) for v in ("pass", "fail", "inconclusive")]
            ratios = [j["ratio"]["value"] for j in own if j["ratio"]]
            smallest = [j["smallest_change_seen"] for j in own if j["smallest_change_seen"] is not None]
            shown = [f"{statistics.median(ratios):.3f}" if ratios else "–",
                     f"{100 * statistics.median(smallest):.0f} %" if smallest else "–"]  # fmt: skip
            lines.append(f"| {' | '.join([TITLES[scenario], name, *counts, *shown])} |")
    return "\n".join(lines)


def write_page(results: Sequence[dict[str, Any]]) -> None:
    commands = ", ".join(dict.fromkeys(f"`{result['benchmark']}`" for result in results))
    text = "\n\n".join(
        [
            "# The guard on live engines", f"Measured with {commands}. Intervals are 95 %.",
            "Each guard is the whole command on the demo's model (FP16, 4 users), with margins of 5 % on "
            "all objectives unless its words say otherwise. A slowed engine stands still for a fifth of the time.",
            table(results), objectives(results),
        ]
    )  # fmt: skip
    print(text)
    (RESULTS / "guard.md").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=list(TITLES))
    parser.add_argument("--guards", type=int, default=1)
    parser.add_argument("--python")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    asked, overrides = parser.parse_known_args()
    require_quiet()
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "guard.jsonl"
    shown = [word for word in overrides if not word.startswith(("output_dir=", "cache_dir="))]
    options = [asked.scenario, "--guards", str(asked.guards), "--minutes", f"{asked.minutes:g}", *shown]
    if asked.python:
        options += ["--python", "OTHER"]
    command = shlex.join(["python", "-m", "benchmarks.guard_live", *options])
    words = [*ROW, *words_of(asked.scenario, asked), f"guard.minutes={asked.minutes:g}", *overrides]
    with braked() if asked.scenario == "slow" else nullcontext():
        for number in range(asked.guards):
            result = {"scenario": asked.scenario, "benchmark": command, **guard(words, asked.folder)}
            result["command"] = without_place(result["command"], asked.python)
            with path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(result) + "\n")
            print(f"{number + 1}: {result['verdict']}, {result['rounds']} rounds", flush=True)
    results = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    write_page(results)


if __name__ == "__main__":
    main()
