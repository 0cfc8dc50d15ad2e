"""Fixtures of live tests; `tests/conftest.py` offers them to tests in other folders too.

What takes long to start (a study, an engine that imports vLLM itself) starts with the first live test and runs beside
the others until a test asks for it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine
from tests.live.engines import ENV, PLAIN, QUIET, ROOT, LiveEngines, answers_of, share

# A short measurement on any machine: what disturbs one is tested by itself.
BELIEVE = [
    "load.guard={repeats: 0, steal_max: 1, other_cores_max: 1, throttled_max: 1, drift_p: 0}",
    "load.guard.send_lag_p99_max_s=60", "load.guard.client_cpu_max=2", "load.window_max_s=60", "load.drain_max_s=60",
    "load.precision={}", "load.window_min_s=1", "load.window_requests=10",
]  # fmt: skip
CACHE = f"cache_dir={ROOT / '.cache'}"
_COMMAND_S = 580


@pytest.fixture(scope="session")
def live_vllm() -> Iterator[VllmLauncher]:
    """The launcher of all live tests; its fork server imports vLLM once."""
    launcher = VllmLauncher(env=ENV, start="warm", compile_cache=str(ROOT / ".cache/compiled"), niceness=0)
    launcher.prepare()
    share(launcher)
    yield launcher
    share(None)
    launcher.close()


@pytest.fixture(scope="session")
def live_engines(live_vllm: VllmLauncher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngines]:
    """Engines of all live tests, reused by key."""
    engines = LiveEngines(live_vllm, tmp_path_factory.mktemp("engines"))
    yield engines
    engines.stop()


@pytest.fixture
def plain_engine(live_engines: LiveEngines) -> Iterator[VllmEngine]:
    """The engine of the tests that need no other; they come one after the other, so that it starts once."""
    with live_engines.lease() as lease:
        assert isinstance(lease.engine, VllmEngine)
        yield lease.engine


@pytest.fixture(scope="session")
def plain_answers(live_engines: LiveEngines) -> list[str]:
    """Greedy answers of the plain engine, for tests that compare those of others with them."""
    with live_engines.lease() as lease:
        return answers_of(lease.engine.endpoint)


@dataclass(frozen=True)
class ColdStart:
    """An engine started cold by a launcher that does not know the installed release, and the lines it logged."""

    engine: VllmEngine
    log: list[str]


@pytest.fixture(scope="session")
def cold_start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[ColdStart]]:
    """A cold start under way."""
    folder = tmp_path_factory.mktemp("cold")
    metadata = folder / "pretended/vllm-9.9.0+cpu.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.9.0+cpu\n")
    path = f"{folder / 'pretended'}:{ROOT}"
    launcher = VllmLauncher(env={**ENV, "PYTHONPATH": path}, niceness=0)
    launcher.prepare()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_start_cold, launcher, folder / "log")
        yield future
        try:
            future.result().engine.stop()
        finally:
            launcher.close()


def _start_cold(launcher: VllmLauncher, log_path: Path) -> ColdStart:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("optimize.engine.vllm")
    logger.addHandler(handler)
    try:
        return ColdStart(launcher.launch(PLAIN, log_path), lines)
    finally:
        logger.removeHandler(handler)


@dataclass(frozen=True)
class Command:
    """A command under way, its folder, and how to learn which of its processes outlived it."""

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path, verb: str, arguments: Sequence[str]) -> Command:
        """Start `python -m VERB ARGUMENTS`, with its output in files of the folder."""
        account = [sys.executable, "-m", "tests.live.accounted", str(folder / "left_behind")]
        command = [*account, sys.executable, "-m", verb, *arguments]
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            return cls(folder, subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=stderr))

    def wait(self, timeout_s: float = _COMMAND_S) -> subprocess.CompletedProcess[str]:
        code = self.process.wait(timeout_s)
        texts = [(self.folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(self.process.args, code, *texts)

    def left_behind(self) -> list[str]:
        """Processes that outlived the command, once it has ended."""
        processes: list[str] = json.loads((self.folder / "left_behind").read_text(encoding="utf-8"))
        return processes

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


@dataclass(frozen=True)
class RealStudy:
    """A study on live vLLM: its output folder, the command that made it, and the processes that outlived it."""

    out: Path
    done: subprocess.CompletedProcess[str]
    left_behind: list[str]


@pytest.fixture(scope="session")
def smoke_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The smoke study as a newcomer runs it, under way."""
    out = tmp_path_factory.mktemp("smoke")
    # Beam search on a processor without AVX-512 takes a second per answer: a few are enough here.
    few = [
        "load.arrivals.users=2", "load.warmup_requests=2", "load.warmup_max_s=2", "load.window_requests=5",
        "confirm.rounds=2", "workload.max_tokens=24",
    ]  # fmt: skip
    command = Command.start(out, "optimize", ["+study=smoke", f"output_dir={out}", CACHE, *BELIEVE, *few, *QUIET])
    yield command
    command.end()


@pytest.fixture(scope="session")
def real_smoke(smoke_command: Command) -> RealStudy:
    """The smoke study on live vLLM, run once for all live tests that read it."""
    done = smoke_command.wait()
    return RealStudy(smoke_command.folder, done, smoke_command.left_behind())
