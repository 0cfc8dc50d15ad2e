"""A study whose recommended row is served: its engine is killed twice, and its client is answered all the while."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import psutil

from optimize.engine.process import free_port
from optimize.engine.simulated import SimulatedLauncher
from optimize.serve.restart_log import Restart, RestartLog
from optimize.serve.supervisor import Supervisor
from tests.faults.injector import WRITE, Injector
from tests.faults.session import Session
from tests.faults.study import SCRATCH, Study

SERVE = "optimize.serve"
KILLS = 2
_PROGRAM = [sys.executable, "-I", "-S", str(Path(__file__).with_name("quick_engine.py"))]
_PATIENCE_S = 300.0


class Launcher(SimulatedLauncher):
    """Launches quick engines."""

    def command(self, port: int, settings: Mapping[str, Any]) -> list[str]:
        return [*_PROGRAM, str(port)]


class Terminal(io.StringIO):
    """Standard output on a disk, whose lines may be refused as those of any other file.

    Args:
        injector: Refuses them.
        path: The file.
    """

    def __init__(self, injector: Injector, path: Path) -> None:
        super().__init__()
        self._injector, self._path = injector, str(path)

    def write(self, text: str) -> int:
        self._injector.check(WRITE, self._path)
        return super().write(text)


class Client(threading.Thread):
    """Asks while the server runs, before and after each kill of its engine, and has it end.

    Args:
        port: The server's.
        end: Set where the server is to end, or has ended.

    Attributes:
        defects: What went wrong, in words.
        kills: Number of engines that were killed.
    """

    def __init__(self, port: int, end: threading.Event) -> None:
        super().__init__(name="client", daemon=True)
        self._base_url, self._end = f"http://127.0.0.1:{port}", end
        self.defects: list[str] = []
        self.kills = 0

    def run(self) -> None:
        try:
            with httpx.Client(base_url=self._base_url, timeout=_PATIENCE_S) as http:
                if self._wait_for(lambda: self._health(http) == 200):
                    self._use(http)
        except Exception as error:
            self.defects.append(f"the client was not served: {error!r}")
        finally:
            self._end.set()

    def _use(self, http: httpx.Client) -> None:
        for _ in range(KILLS):
            self._ask(http)
            (engine,) = engines()
            os.kill(engine, signal.SIGKILL)
            self.kills += 1
            self._wait_for(partial(_is_replaced, engine))
        self._ask(http)
        if (status := self._health(http)) != 200:
            self.defects.append(f"/health answers {status} while the engine is up")

    def _ask(self, http: httpx.Client) -> None:
        answer = http.post("/v1/completions", json={"model": "model", "prompt": "a"})
        if answer.status_code != 200:
            self.defects.append(f"an answer was {answer.status_code}: {answer.text}")

    def _health(self, http: httpx.Client) -> int:
        with contextlib.suppress(httpx.TransportError):
            return http.get("/health").status_code
        return 0

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        """Whether it came true before the server ended."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if self._end.wait(0.05):
                return False
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not come up")
        return True


def engines() -> list[int]:
    """Process numbers of the engines of this process."""
    pids = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[: len(_PROGRAM)] == _PROGRAM:
                pids.append(process.pid)
    return pids


def _is_replaced(engine: int) -> bool:
    return engines() not in ([], [engine])


class Service(Study):
    """A study that has ended, and the server of its recommended row.

    Args:
        folder: Everything is written here.
        empty_mlflow_db: A tracking store without runs.
        injector: Refuses lines of the terminal.
    """

    def __init__(self, folder: Path, empty_mlflow_db: Path, injector: Injector) -> None:
        super().__init__(folder, empty_mlflow_db)
        self._injector, self._port = injector, free_port()
        self._served = self.out / "studies/serve-smoke"
        self._defects: list[str] = []
        self._leftovers: set[Path] = set()

    def forget(self) -> None:
        """Remove what serving has written, and what it can make again."""
        for path in (self._served, self.folder / "cache"):
            shutil.rmtree(path, ignore_errors=True)

    def run(self, verb: str = "optimize", *overrides: str) -> Session:
        return super().run(verb, *overrides) if verb != SERVE else self._serve(*overrides)

    def _serve(self, *overrides: str) -> Session:
        end, supervisors = threading.Event(), list[Supervisor]()
        client, out = Client(self._port, end), Terminal(self._injector, self.folder / "terminal")

        def supervisor(*arguments: Any) -> Supervisor:
            supervisors.append(Supervisor(*arguments))
            return supervisors[0]

        with (
            _ended_by(end),
            patch("tests.faults.study.make_terminal", lambda: out),
            patch("optimize.serve.session.Supervisor", supervisor),
        ):
            client.start()
            try:
                session = super().run(
                    SERVE, f"serve.port={self._port}", "serve.backoff_first_s=0.01", "serve.healthy_s=0",
                    f"engine._target_={__name__}.Launcher", "+engine.env.ENGINE_TOKEN=kept-from-all-logs", *overrides,
                )  # fmt: skip
            finally:
                end.set()
                client.join()
        restarts = [restart for instance in supervisors for restart in instance.restarts.own]
        self._defects = [*client.defects, *self._unrecorded(restarts, client.kills)]
        return session

    def _unrecorded(self, restarts: Sequence[Restart], kills: int) -> list[str]:
        """The restarts of a session that its file lacks, and kills without one, in words."""
        records = list(RestartLog(self._served / "restarts.jsonl").read()) if restarts else []
        replacements = sum(restart.how != "failed" for restart in restarts)
        return [f"{restart} was not recorded" for restart in restarts if restart not in records] + (
            [] if replacements == kills else [f"{kills} engines were killed, {replacements} replaced"]
        )

    def losses(self, by_kill: bool = False) -> list[str]:
        leftovers = set((self.folder / SCRATCH).iterdir())
        losses = [f"{path} was left behind" for path in leftovers - self._leftovers]
        self._leftovers = leftovers
        return super().losses(by_kill) + self._defects + losses


@contextmanager
def _ended_by(end: threading.Event) -> Iterator[None]:
    """In place of SIGTERM, which would end the tests where the server has ended before."""

    @contextmanager
    def terminated() -> Iterator[threading.Event]:
        yield end

    with patch("optimize.serve.session._terminated", terminated):
        yield
