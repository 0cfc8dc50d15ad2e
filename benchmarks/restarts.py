"""Kills the engine under `optimize.serve` many times, under load, and counts the consequences.

Usage: python -m benchmarks.restarts [--kills 20] [--cold 3] [--users 4]

Every answer is compared with what the undisturbed engine gave to the same prompt; so are those of a second undisturbed
load, for answers of a batched engine may differ by themselves.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.common import RESULTS, provenance, require_quiet
from objectives import RequestRecord
from optimize.certify.testbed import watch
from optimize.config.compose import configuration
from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.plan import make_plan
from optimize.serve.restart_log import Restart, RestartLog

_ROOT = Path(__file__).resolve().parents[1]
_UP_S, _LIMIT_S, _BETWEEN_S = 180.0, 120.0, 2.0


@dataclass(frozen=True)
class Series:
    """Kills of one sort.

    Attributes:
        how: "warm" or "cold".
        restarts: As the supervisor recorded them.
        killed_at: Unix time of each kill.
        records: Requests of the load.
        orphans: Processes left at the end.
    """

    how: str
    restarts: Sequence[Restart]
    killed_at: Sequence[float]
    records: Sequence[RequestRecord]
    orphans: int

    @property
    def recovery_s(self) -> list[float]:
        """From each kill until another engine answered."""
        return [r.detected_s + r.down_s - k for r, k in zip(self.restarts, self.killed_at, strict=False)]

    @property
    def detection_s(self) -> list[float]:
        return [r.detected_s - k for r, k in zip(self.restarts, self.killed_at, strict=False)]


@contextmanager
def serving(folder: Path, start: str, port: int) -> Iterator[tuple[subprocess.Popen[bytes], Endpoint]]:
    """`python -m optimize.serve` in a process of its own, ended by SIGTERM."""
    command = [
        sys.executable, "-m", "optimize.serve", "+study=chat", "+at.quantization=fp16", f"output_dir={folder}",
        f"serve.port={port}", f"engine.start={start}", "serve.healthy_s=0",
    ]  # fmt: skip
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)
    endpoint = Endpoint(f"http://127.0.0.1:{port}", None, "model")
    try:
        until(lambda: _status(endpoint) == "up", process)
        yield process, endpoint
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def until(condition: object, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _UP_S
    while not condition():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"optimize.serve did not come up (exit code {process.poll()})")
        time.sleep(0.02)


def _status(endpoint: Endpoint) -> str:
    try:
        return str(httpx.get(f"{endpoint.base_url}/health", trust_env=False, timeout=5).json()["status"])
    except (httpx.HTTPError, ValueError):
        return "nothing"


def engine_of(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Processes of the engine under a server: all below its reaper, or its preloaded process."""
    below = [p for reaper in psutil.Process(server.pid).children() for p in reaper.children(recursive=True)]
    return [p for p in below if p.status() != psutil.STATUS_ZOMBIE]


def kill_largest(server: subprocess.Popen[bytes]) -> float:
    """As the out-of-memory killer does; returns when."""
    victim = max(engine_of(server), key=lambda p: p.memory_info().rss)
    at = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    return at


def kills(clients: ClientPool, load: LoadRequest, start: str, count: int, users: int, port: int) -> Series:
    killed_at: list[float] = []
    processes: set[tuple[int, float]] = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, start, port) as (server, endpoint):
            log = RestartLog(folder / "studies/serve-chat/restarts.jsonl")
            with clients.loading(endpoint, load) as flow:
                flow.follow(ClosedLoop(users), 0.0)
                _wait(flow, _BETWEEN_S)
                for number in range(count):
                    processes |= {(p.pid, p.create_time()) for p in engine_of(server)}
                    killed_at.append(kill_largest(server))
                    watch(flow, lambda n=number: len(succeeded(log)) > n, flow.clock() + _LIMIT_S)  # type: ignore[misc]
                    _wait(flow, _BETWEEN_S)
                    print(f"{start}: kill {number + 1} of {count}: {succeeded(log)[-1].down_s:.2f} s", flush=True)
                processes |= {(p.pid, p.create_time()) for p in engine_of(server)}
                records = list(flow.records)
            restarts = succeeded(log)
    orphans = sum(psutil.pid_exists(pid) and psutil.Process(pid).create_time() == born for pid, born in processes)
    return Series(start, restarts, killed_at, records, orphans)


def succeeded(log: RestartLog) -> list[Restart]:
    return [r for r in log.read() if r.how != "failed"]


def _wait(flow: LoadRun, seconds: float) -> None:
    end_s = flow.clock() + seconds
    watch(flow, lambda: flow.clock() >= end_s, end_s)


def undisturbed(
    clients: ClientPool, load: LoadRequest, users: int, port: int, seconds: float
) -> list[dict[int, set[str]]]:
    """Prompt -> the answers that it got, of two loads on one engine that nothing happens to."""
    answers = []
    with tempfile.TemporaryDirectory() as name, serving(Path(name), "auto", port) as (_, endpoint):
        for _ in range(2):
            with clients.loading(endpoint, load) as flow:
                flow.follow(ClosedLoop(users), 0.0)
                _wait(flow, seconds)
            answers.append(answers_of(flow.records))
    return answers


def answers_of(records: Sequence[RequestRecord]) -> dict[int, set[str]]:
    answers: dict[int, set[str]] = {}
    for record in records:
        if record.error is None:
            answers.setdefault(record.prompt_id, set()).add(record.text)
    return answers


def differing(answers: Mapping[int, set[str]], reference: Mapping[int, set[str]]) -> tuple[int, int]:
    """(answers that the undisturbed engine never gave, answers that can be compared)."""
    compared = [(text, reference[row]) for row, texts in answers.items() if row in reference for text in texts]
    return sum(text not in right for text, right in compared), len(compared)


def rows_of(series: Series, reference: Mapping[int, set[str]]) -> list[str]:
    errors = Counter(str(r.error) for r in series.records if r.error is not None)
    wrong, compared = differing(answers_of(series.records), reference)
    recovery, detection = series.recovery_s, series.detection_s
    return [
        f"| kills, restarts recorded | {len(series.killed_at)}, {len(series.restarts)} "
        f"({', '.join(f'{n} {how}' for how, n in Counter(r.how for r in series.restarts).items())}) |",
        f"| noticed after, median and longest | {statistics.median(detection):.3f} s, {max(detection):.3f} s |",
        f"| another engine answers after, median [quartiles] and longest | {_spread(recovery)} |",
        f"| requests | {len(series.records)}, {sum(errors.values())} lost "
        f"({', '.join(f'{n} {kind}' for kind, n in errors.items()) or 'none'}) |",
        f"| answers that the undisturbed engine never gave | {wrong} of {compared} |",
        f"| processes left at the end | {series.orphans} |",
    ]


def _section(series: Series, reference: Mapping[int, set[str]]) -> str:
    title = "Warm" if series.how == "auto" else "Cold"
    table = "\n".join(["| count | figure |", "|---|---|", *rows_of(series, reference)])
    return f"## {title} restarts\n\n{table}"


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return f"{middle:.2f} s [{low:.2f}, {high:.2f}], {max(values):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cold", type=int, default=3)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--port", type=int, default=8155)
    args = parser.parse_args()
    require_quiet()
    with tempfile.TemporaryDirectory() as name:
        config = configuration(["+study=chat", f"output_dir={name}", "study.name=restarts"])
        plan = make_plan(config)
        load = LoadRequest(plan.workload, RequestConfig(), plan.workload.max_tokens, 120.0, 0)
        with ClientPool(1) as clients:
            first, second = undisturbed(clients, load, args.users, args.port, 15.0)
            counts = (("auto", args.kills), ("cold", args.cold))
            series = [kills(clients, load, start, count, args.users, args.port) for start, count in counts if count]
    reference = {row: first.get(row, set()) | second.get(row, set()) for row in {*first, *second}}
    control, of = differing(second, first)
    text = "\n\n".join(
        [
            "# Killing the engine under `optimize.serve`",
            provenance(f"python -m benchmarks.restarts --kills {args.kills} --cold {args.cold}"),
            f"{args.users} users in a closed loop through the front, FP16, vLLM's defaults; SIGKILL to the process of "
            "the engine that holds most memory, two seconds after the last restart. Two loads on one undisturbed "
            f"engine, with nothing done to it, differ in {control} of {of} answers.",
            *(_section(part, reference) for part in series),
        ]
    )  # fmt: skip
    print(text)
    (RESULTS / "restarts.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
