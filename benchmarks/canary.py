"""Canaries under `optimize.serve` on live engines: equal, slower and broken ones, and SIGKILL to either engine.

Usage: python -m benchmarks.canary [--users 4] [--cases equal,slower,broken,candidate-killed,serving-killed]

Everything is mirrored (`serve.canary.share=1`), which takes least time. Of each canary the verdict, its reason and the
pairs are reported, and what became of the clients' requests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.restarts import until
from objectives import RequestRecord
from optimize.certify.testbed import watch
from optimize.config.compose import configuration
from optimize.engine.base import Endpoint, RequestConfig
from optimize.engine.http_client import client_of
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.plan import make_plan

_ROOT = Path(__file__).resolve().parents[1]
_LIMIT_S, _KILL_AFTER_S, _AFTERWARDS_S = 900.0, 15.0, 5.0
_MARGIN = 0.25
"""A wider margin than the default of 10 %, which would take an equal candidate some minutes more."""
_CANDIDATES = {
    "equal": "+serve.canary.at.quantization=fp16",
    "slower": "+serve.canary.at.batch_size=1",
    "broken": "+serve.canary.at.quantization=broken",
    "candidate-killed": "+serve.canary.at.quantization=fp16",
    "serving-killed": "+serve.canary.at.quantization=fp16",
}
_NO_VERDICT = {"verdict": "none", "reason": "the limit of this benchmark came first", "pairs": 0, "seconds": _LIMIT_S}
_VICTIMS = {"serving-killed": 0, "candidate-killed": 1}
"""Case -> which of the engines, in the order of their start, is killed."""


@dataclass(frozen=True)
class Result:
    """What became of one canary.

    Attributes:
        case: Name of the case.
        verdict: Content of `canary.json`.
        records: Requests of the clients.
        orphans: Processes left at the end.
    """

    case: str
    verdict: dict[str, Any]
    records: Sequence[RequestRecord]
    orphans: int

    def row(self) -> str:
        errors = Counter(str(record.error) for record in self.records if record.error is not None)
        lost = ", ".join(f"{n} {kind}" for kind, n in errors.items()) or "none"
        verdict = self.verdict
        return (
            f"| {self.case} | {verdict['verdict']} | {verdict['pairs']} in {verdict['seconds']:.0f} s | "
            f"{verdict['reason']} | {len(self.records)} | {lost} | {self.orphans} |"
        )


@contextmanager
def serving(folder: Path, port: int, words: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], Endpoint]]:
    """`python -m optimize.serve` with a canary, in a process of its own, ended by SIGTERM."""
    command = [
        sys.executable, "-m", "optimize.serve", "+study=chat", "+at.quantization=fp16", f"output_dir={folder}",
        f"serve.port={port}", "serve.canary.share=1", f"serve.canary.margin={_MARGIN:g}", "serve.healthy_s=0", *words,
    ]  # fmt: skip
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)
    endpoint = Endpoint(f"http://127.0.0.1:{port}", None, "model")
    try:
        until(lambda: _gauge(endpoint, "canary_comparing"), process)
        yield process, endpoint
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _gauge(endpoint: Endpoint, name: str) -> bool:
    """Whether a gauge of the front's stands at 1."""
    try:
        with client_of(endpoint, 5.0) as http:
            return f"\noptimize:{name} 1\n" in http.get("/metrics").text
    except httpx.HTTPError:
        return False


def engines_of(server: subprocess.Popen[bytes]) -> list[list[psutil.Process]]:
    """Processes of each engine, in the order of their launchers."""
    keepers = sorted(psutil.Process(server.pid).children(), key=lambda p: (p.create_time(), p.pid))
    below = [[p for p in keeper.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE] for keeper in keepers]
    return [processes for processes in below if processes]


def kill_largest(processes: Sequence[psutil.Process]) -> None:
    """As the out-of-memory killer does."""
    os.kill(max(processes, key=lambda p: p.memory_info().rss).pid, signal.SIGKILL)


def broken_checkpoint(folder: Path) -> Path:
    """The demo's model with the signs of one layer's outputs turned, which answers fluently and wrongly."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(_ROOT / "demo/model", folder)
    tensors = load_file(folder / "model.safetensors")
    turned = {name: -tensor if "layers.1.mlp.down_proj" in name else tensor for name, tensor in tensors.items()}
    save_file(turned, folder / "model.safetensors", {"format": "pt"})
    return folder


def run(case: str, clients: ClientPool, asked: LoadRequest, users: int, port: int) -> Result:
    """One canary under load, until its verdict and a few seconds longer."""
    with tempfile.TemporaryDirectory() as name:
        folder, words = Path(name), [_CANDIDATES[case]]
        if case == "broken":
            checkpoint = broken_checkpoint(folder / "broken")
            words += ["+quantization@recipes.broken=published", "recipes.broken.name=broken"]
            words.append(f"recipes.broken.checkpoint={checkpoint}")
        record = folder / "studies/serve-chat/canary.json"
        with serving(folder, port, words) as (server, endpoint):
            seen = {process for engine in engines_of(server) for process in engine}
            with clients.loading(endpoint, asked) as flow:
                flow.follow(ClosedLoop(users), 0.0)
                if case in _VICTIMS:
                    _wait(flow, _KILL_AFTER_S)
                    kill_largest(engines_of(server)[_VICTIMS[case]])
                watch(flow, lambda: _has_ended(endpoint), flow.clock() + _LIMIT_S)
                _wait(flow, _AFTERWARDS_S)
                records = list(flow.records)
            seen |= {process for engine in engines_of(server) for process in engine}
            verdict = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else dict(_NO_VERDICT)
        print(f"{case}: {verdict['verdict']}: {verdict['reason']}", flush=True)
        return Result(case, verdict, records, sum(process.is_running() for process in seen))


def _has_ended(endpoint: Endpoint) -> bool:
    return _gauge(endpoint, "canary_promoted") or _gauge(endpoint, "canary_rolled_back")


def _wait(flow: LoadRun, seconds: float) -> None:
    end_s = flow.clock() + seconds
    watch(flow, lambda: flow.clock() >= end_s, end_s)


def report(results: Sequence[Result], command: str, users: int) -> str:
    head = "| candidate | verdict | pairs | why | requests | lost | processes left |\n|---|---|---|---|---|---|---|"
    return "\n\n".join(
        [
            "# Canaries under `optimize.serve`",
            provenance(command),
            f"{users} users in a closed loop through the front, FP16, vLLM's defaults; everything is mirrored, so both "
            f"engines share the machine all the time; up to {_MARGIN:.0%} slower is good enough. The load goes on "
            "until a few seconds after the verdict. `slower` runs one sequence at a time, `broken` has the signs of "
            f"one layer turned; where an engine is killed, it gets SIGKILL after {_KILL_AFTER_S:.0f} s.",
            "\n".join([head, *(result.row() for result in results)]),
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--cases", default=",".join(_CANDIDATES))
    parser.add_argument("--port", type=int, default=8156)
    arguments = parser.parse_args()
    require_quiet()
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(configuration(["+study=chat", f"output_dir={name}", "study.name=canary"]))
    asked = LoadRequest(plan.workload, RequestConfig(), plan.workload.max_tokens, 120.0, 0)
    with ClientPool(1) as clients:
        results = [run(case, clients, asked, arguments.users, arguments.port) for case in arguments.cases.split(",")]
    text = report(
        results, f"python -m benchmarks.canary --users {arguments.users} --cases {arguments.cases}", arguments.users
    )
    print(text)
    (RESULTS / "canary.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
