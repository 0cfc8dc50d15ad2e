"""Supervision survives every fault of its own surroundings, and health says so when it does not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from optimize.config.serve import Serve
from optimize.engine.base import Endpoint, EngineConfig
from optimize.errors import EngineFailure, FailureKind, OptimizeError
from optimize.serve import supervisor as supervisor_module
from optimize.serve.front import Front, bind
from optimize.serve.launchers import LauncherPool
from optimize.serve.supervisor import Supervisor
from tests.conftest import ROOT
from tests.optimize.serve.test_supervisor import ask, kill, serving, wait_for

# Patient with probes: a fake engine answers none.
PATIENT = {"probe_failures": 1 << 30, "unanswered_max_s": 3600.0}
QUICK = Serve(probe_s=0.01, backoff_first_s=0.001, backoff_max_s=0.01, healthy_s=0.0, **PATIENT)  # type: ignore[arg-type]
CONFIG = EngineConfig("model", "fp16")


class FakeEngine:
    """An engine without a process: it dies when told to."""

    endpoint = Endpoint("http://127.0.0.1:9", None, "model")
    warm = True
    pids: Sequence[int] = ()

    def __init__(self, launcher: FakeLauncher) -> None:
        self._launcher, self.dead, self.stopped = launcher, False, False

    def broken(self) -> str | None:
        self._launcher.fault("broken")
        return "process engine (1) died" if self.dead else None

    def check(self) -> None:
        self._launcher.fault("check")
        raise EngineFailure(FailureKind.CRASH, "died")

    def stop(self) -> None:
        self.stopped = True
        self._launcher.fault("stop")


class FakeLauncher:
    """Launches fake engines, and raises the next fault that was planned for a place."""

    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.faults: dict[str, list[BaseException]] = {}

    def fault(self, place: str) -> None:
        if self.faults.get(place):
            raise self.faults[place].pop(0)

    def launch(self, slot: int, config: EngineConfig, log: Path, cgroups: Sequence[str] = ()) -> FakeEngine:
        self.fault("launch")
        self.engines.append(FakeEngine(self))
        return self.engines[-1]


@contextmanager
def supervised(
    folder: Path, settings: Serve = QUICK, say: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[Supervisor, FakeLauncher]]:
    launcher = FakeLauncher()
    with Supervisor(CONFIG, cast(LauncherPool, launcher), settings, folder, say) as supervisor:
        yield supervisor, launcher


def dies_and_is_replaced(supervisor: Supervisor, launcher: FakeLauncher) -> None:
    current = supervisor.current
    assert current is not None
    cast(FakeEngine, current.engine).dead = True
    assert wait_for(lambda: supervisor.current not in (None, current), 30)
    assert supervisor.supervised


NO_SPACE = OSError(28, "No space left on device")
PLACES = ["launch", "stop", "check", "broken"]


@pytest.mark.parametrize("error", [NO_SPACE, RuntimeError("anything"), MemoryError()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("place", PLACES)
def test_supervision_goes_on_after_a_fault_at_any_step_of_a_restart(
    tmp_path: Path, place: str, error: Exception
) -> None:
    lines: list[str] = []
    with supervised(tmp_path, say=lines.append) as (supervisor, launcher):
        launcher.faults[place] = [error]
        dies_and_is_replaced(supervisor, launcher)
        assert launcher.faults[place] == []
        dies_and_is_replaced(supervisor, launcher)
        engines = launcher.engines
        assert wait_for(lambda: all(e.stopped for e in engines[:-1]), 30)
    assert all(engine.stopped for engine in engines)
    assert any(type(error).__name__ in line or "crash" in line or "died" in line for line in lines)


@pytest.mark.parametrize("place", PLACES)
def test_supervision_with_a_standby_goes_on_after_a_fault_at_any_step(tmp_path: Path, place: str) -> None:
    with supervised(tmp_path, replace(QUICK, standby=True)) as (supervisor, launcher):
        assert supervisor.wait_for_standby(30)
        launcher.faults[place] = [NO_SPACE]
        dies_and_is_replaced(supervisor, launcher)
        assert supervisor.wait_for_standby(30)
        dies_and_is_replaced(supervisor, launcher)
        assert supervisor.wait_for_standby(30)
        engines = launcher.engines
    assert all(engine.stopped for engine in engines)


def test_restarts_that_cannot_be_recorded_are_recorded_once_they_can_be(tmp_path: Path) -> None:
    lines: list[str] = []
    with supervised(tmp_path, say=lines.append) as (supervisor, launcher):
        supervisor.restarts.path.mkdir()  # whoever runs the tests may write everywhere, but not into a folder
        dies_and_is_replaced(supervisor, launcher)
        dies_and_is_replaced(supervisor, launcher)
        assert wait_for(lambda: len(list(supervisor.restarts.read())) == 2, 30)
        assert any("recording a restart failed: IsADirectoryError" in line for line in lines)
        supervisor.restarts.path.rmdir()
        dies_and_is_replaced(supervisor, launcher)
        assert wait_for(lambda: supervisor.restarts.path.is_file(), 30)
    assert [r.generation for r in supervisor.restarts.read()] == [1, 2, 3]
    assert len(supervisor.restarts.path.read_text().split()) > 3


def test_a_restart_that_could_not_be_recorded_is_recorded_as_supervision_ends(tmp_path: Path) -> None:
    lines: list[str] = []
    with supervised(tmp_path, say=lines.append) as (supervisor, launcher):
        supervisor.restarts.path.mkdir()
        dies_and_is_replaced(supervisor, launcher)
        assert wait_for(lambda: any("recording a restart failed" in line for line in lines), 30)
        supervisor.restarts.path.rmdir()
    assert "died" in supervisor.restarts.path.read_text()


def test_a_closed_terminal_and_a_listener_that_fails_end_nothing(tmp_path: Path) -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    heard: list[int] = []
    with supervised(tmp_path, say=closed) as (supervisor, launcher):
        supervisor.subscribe(lambda: closed(""))
        supervisor.subscribe(lambda: heard.append(1))
        dies_and_is_replaced(supervisor, launcher)
        dies_and_is_replaced(supervisor, launcher)
    assert heard


def test_a_probe_that_fails_unexpectedly_is_a_missed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ValueError("no metrics at all")

    monkeypatch.setattr("optimize.serve.probe.Probe.run", fail)
    lines: list[str] = []
    with supervised(tmp_path, say=lines.append) as (supervisor, _):
        assert wait_for(lambda: len(supervisor.missed_probes) > 2, 30)
        assert supervisor.supervised
    assert lines == ["probing the engine: ValueError: no metrics at all"]


@contextmanager
def fronted(supervisor: Supervisor) -> Iterator[Front]:
    with ExitStack() as stack:
        sock = bind("127.0.0.1", 0)
        stack.callback(sock.close)
        yield stack.enter_context(Front(supervisor, QUICK, {}, None, sock))


def health(front: Front) -> tuple[int, Any]:
    answer = httpx.get(f"{front.endpoint.base_url}/health")
    return answer.status_code, answer.json()["status"]


class End(BaseException):
    """Ends a thread as only the interpreter itself does."""


def test_an_engine_that_nobody_watches_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with supervised(tmp_path) as (supervisor, launcher), fronted(supervisor) as front:
        assert health(front) == (200, "up")
        assert "\noptimize:engine_up 1\n" in httpx.get(f"{front.endpoint.base_url}/metrics").text
        launcher.faults["broken"] = [End()]
        assert wait_for(lambda: not supervisor.supervised, 30)
        assert health(front) == (503, "unsupervised")
        assert "\noptimize:engine_up 0\n" in httpx.get(f"{front.endpoint.base_url}/metrics").text


def test_a_watch_that_hangs_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_STALLED_S", 0.05)
    hangs = threading.Event()
    with supervised(tmp_path) as (supervisor, launcher):
        assert supervisor.supervised
        cast(Any, launcher.engines[0]).broken = lambda: hangs.wait(60) and None
        assert wait_for(lambda: not supervisor.supervised, 30)
        hangs.set()
        assert wait_for(lambda: supervisor.supervised, 30)


def test_a_front_that_ends_is_an_error_and_not_a_server_without_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Front) -> None:
        raise RuntimeError("no event loop")

    monkeypatch.setattr(Front, "_run", fail)
    with (
        supervised(tmp_path) as (supervisor, _),
        pytest.raises(OptimizeError, match="the front ended: RuntimeError: no event loop"),
        fronted(supervisor),
    ):
        pass


def test_a_real_engine_is_replaced_although_record_disk_and_terminal_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as (supervisor, front):
        supervisor.restarts.path.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))  # no folder for an engine's temporary files
        kill(supervisor)
        assert wait_for(lambda: any(r.how == "failed" for r in supervisor.restarts.read()))
        assert health(front) == (503, "restarting")
        (tmp_path / "full").mkdir()
        assert wait_for(lambda: supervisor.current is not None)
        kill(supervisor)
        assert ask(front).status_code == 200
        assert health(front) == (200, "up")
    reasons = {r.reason for r in supervisor.restarts.read() if r.how == "failed"}
    assert reasons and all("no folder for its temporary files" in reason for reason in reasons)


def test_a_server_says_what_it_can_and_ends_as_usual_after_its_output_was_closed() -> None:
    code = "import sys; from optimize.serve.reporter import say; say('x'); say('x'); print('end', file=sys.stderr)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "end\n"
        assert process.wait(60) == 0
