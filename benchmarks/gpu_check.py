"""Does all that this project does on a GPU work on this one? Runs step after step, each with a time limit of its own.

Usage: scripts/gpu-check [--model llama_8b_random] [--out gpu-check] [--minutes 12] [--steps stack,starts]

Needs no network. Every step is a process of its own, whose facts are in OUT/results.json as soon as they are known;
steps that fail or last too long do not keep the later ones from running. OUT/gpu.md shows the results as a page.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from optimize.engine.leftovers import end_leftovers
from optimize.files import write_atomically

PASSED, FAILED, TIMED_OUT, LEFT_OUT = "passed", "failed", "timed out", "left out"
_GRACE_S = 10.0
STACK = "stack"
"""The step that imports nothing of the project before it tells what is there."""
LIMITS_S: Mapping[str, float] = {
    # Step of `benchmarks.gpu_steps` -> its limit, 12 minutes in all; in the order in which they run, what is needed
    # most first. What a step leaves of its time belongs to those after it.
    STACK: 55,
    "starts": 110,
    "model": 180,
    "recipes": 115,
    "cache": 40,
    "servers": 45,
    "study": 105,
    "users": 70,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: Its name.
        command: Prints facts as lines of JSON, each a mapping; other lines are ignored.
        limit_s: Seconds that it may take.
    """

    name: str
    command: Sequence[str]
    limit_s: float


@dataclass(slots=True)
class Result:
    """What became of a step.

    Attributes:
        name: The step's name.
        state: PASSED, FAILED, TIMED_OUT or LEFT_OUT; empty while it runs.
        seconds: How long it took.
        facts: What it has printed, in order.
        reason: Last line of its log where it failed.
    """

    name: str
    state: str = ""
    seconds: float = 0.0
    facts: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def run_steps(
    steps: Iterable[Step], out: Path, budget_s: float, say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> list[Result]:  # fmt: skip
    """Run the steps one after the other.

    Args:
        steps: The steps.
        out: Folder of results.json and of a log for each step.
        budget_s: Seconds for all of them; a step gets what is left of them at most, and none where nothing is. It may
            take its own limit, and what the steps before it have left of theirs.
        say: Called with a line after each step.
        clock: Tells the time in seconds.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    due = clock()
    end = due + budget_s
    for step in steps:
        result = Result(step.name)
        results.append(result)
        now = clock()
        due = max(due, now) + step.limit_s
        limit_s = min(due, end) - now
        if limit_s <= 0:
            result.state = LEFT_OUT
        else:
            _run(step, limit_s, result, out, lambda: _write(results, out))
        _write(results, out)
        say(f"{step.name}: {result.state} after {result.seconds:.0f} s{result.reason and f' ({result.reason})'}")
    return results


def _run(step: Step, limit_s: float, result: Result, out: Path, keep: Callable[[], None]) -> None:
    """Run one step, and note in its result what it says and how it ends."""
    began, log_path = time.monotonic(), out / f"{step.name}.log"
    with (
        log_path.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            step.command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, result.facts, keep), daemon=True)
        reader.start()
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        reader.join(_GRACE_S)
    result.seconds = round(time.monotonic() - began, 1)
    result.state = TIMED_OUT if code is None else PASSED if code == 0 else FAILED
    if result.state != PASSED:
        result.reason = _last_line(log_path)


def _read(lines: IO[str], facts: list[dict[str, Any]], keep: Callable[[], None]) -> None:
    for line in lines:
        try:
            fact = json.loads(line)
        except ValueError:  # a library's own print
            continue
        if isinstance(fact, dict):
            facts.append(fact)
            keep()


def _end(process: subprocess.Popen[str]) -> None:
    """End what is left of a step, its engines included: their keepers see it go, or are seen to have gone."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(_GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait()
    end_leftovers()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def _write(results: Sequence[Result], out: Path) -> None:
    text = json.dumps([asdict(result) for result in results], indent=1)
    write_atomically(out / "results.json", text + "\n")


def page(results: Sequence[Result], when: datetime) -> str:
    """The results in Markdown."""
    lines = ["# On a GPU", "", f"Measured on {when:%Y-%m-%d} by `scripts/gpu-check`.", ""]
    lines += ["| step | result | seconds |", "|---|---|---|"]
    lines += [f"| {r.name} | {r.state}{r.reason and f': {_cell(r.reason)}'} | {r.seconds:.0f} |" for r in results]
    for result in results:
        lines += ["", f"## {result.name}", "", *_table(result.facts)] if result.facts else []
    return "\n".join(lines) + "\n"


def _table(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Facts of the same kind as rows of a table, others one by one."""
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    rows = ["| " + " | ".join(_cell(fact.get(name, "")) for name in names) + " |" for fact in facts]
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|", *rows]


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "/")


def command(name: str, model: str, out: Path) -> list[str]:
    """The command of a step."""
    module = [sys.executable, "-m"]
    return [*module, "benchmarks.gpu_stack"] if name == STACK else [
        *module, "benchmarks.gpu_steps", name, model, str(out.resolve())
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama_8b_random", help="choice of the group `model`; demo on a CPU")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--steps", default=",".join(LIMITS_S), help="those to run, with commas between them")
    asked = parser.parse_args()
    names = asked.steps.split(",")
    if unknown := set(names) - set(LIMITS_S):
        parser.error(f"no step is called {', '.join(sorted(unknown))}: choose of {', '.join(LIMITS_S)}")
    steps = [Step(name, command(name, asked.model, asked.out), LIMITS_S[name]) for name in names]
    results = run_steps(steps, asked.out, asked.minutes * 60)
    write_atomically(asked.out / "gpu.md", page(results, datetime.now(UTC)))
    print(f"results in {asked.out}: results.json, gpu.md and a log for each step")
    return 0 if all(result.state == PASSED for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
