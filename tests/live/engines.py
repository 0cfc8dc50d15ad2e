"""Live engines of the tests: one fork server for all of them, and one engine at a time, reused by key."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.pool import EnginePool, Lease
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "demo/model")
FLAGS = (("dtype", "float16"), ("enforce_eager", True), ("max_model_len", 256))
ENV = {"VLLM_CPU_KVCACHE_SPACE": "1"}
PLAIN = EngineConfig(MODEL, "fp16", (*FLAGS, ("max_num_seqs", 16)))
"""The configuration of every test that needs no other, so that they share an engine."""
PROMPTS = 8
QUIET = ["engine.niceness=0", "load.quiet_wait_s=0"]
"""An engine under test must not starve, nor a test wait, where other programs keep the processors busy."""


def answers_of(endpoint: Endpoint) -> list[str]:
    """Greedy answers to the first prompts of the demo's chat workload, each by the model that its row asks for."""
    lines = (ROOT / "demo/workloads/chat.jsonl").read_text(encoding="utf-8").splitlines()[:PROMPTS]
    with httpx.Client(base_url=endpoint.base_url, headers=endpoint.headers, timeout=60) as http:
        return [_answer(http, endpoint.model_of(row), json.loads(line)["prompt"]) for row, line in enumerate(lines)]


def _answer(http: httpx.Client, model: str, prompt: str) -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0}
    answer = http.post("/v1/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["text"])


class LiveEngines:
    """Engines forked by one launcher, one at a time.

    Attributes:
        launcher: Launcher whose fork server forks them.
    """

    def __init__(self, launcher: VllmLauncher, log_folder: Path) -> None:
        self.launcher = launcher
        self._folder, self._numbers = log_folder, itertools.count()
        self._pool = EnginePool(launcher, log_folder)
        self._kept: set[int] = set()

    @contextmanager
    def lease(self, config: EngineConfig = PLAIN) -> Iterator[Lease]:
        """An engine of this configuration, which lives on for the next test that leases the same."""
        with self._pool.lease(config) as lease:
            self._kept = set(lease.engine.pids)
            yield lease

    @contextmanager
    def launch(self, config: EngineConfig) -> Iterator[VllmEngine]:
        """An engine of the test's own, e.g. one to be killed."""
        self.stop()
        engine = self.launcher.launch(config, self._folder / f"own-{next(self._numbers)}.log")
        try:
            yield engine
        finally:
            engine.stop()

    def stop(self) -> None:
        """Stop the engine that is kept for reuse."""
        self._pool.close()
        self._kept = set()

    def strays(self) -> list[str]:
        """Processes below the fork server that do not belong to the engine that is kept for reuse."""
        client = self.launcher._fork_client
        below = [] if client is None else psutil.Process(client.pid).children(recursive=True)
        alive = [p for p in below if p.status() != psutil.STATUS_ZOMBIE]
        return [f"{p.name()} ({p.pid})" for p in alive if p.pid not in self._kept]


_SHARED: list[VllmLauncher] = []


def share(launcher: VllmLauncher | None) -> None:
    """Set the launcher whose fork server `SharedLauncher` uses, or none."""
    _SHARED[:] = [] if launcher is None else [launcher]


@dataclass
class SharedLauncher(VllmLauncher):
    """A launcher of commands that run within the tests' process: it uses the tests' fork server and leaves it open."""

    def prepare(self) -> None:
        (launcher,) = _SHARED
        launcher.prepare()
        self._fork_client = launcher._fork_client

    def close(self) -> None:
        self._fork_client = None


SHARED = ["engine._target_=tests.live.engines.SharedLauncher", *QUIET]
