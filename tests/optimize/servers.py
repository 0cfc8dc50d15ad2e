"""Real servers for tests: PostgreSQL as a cluster of its own, MLflow; both in temporary folders, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from optimize.engine.process import free_port

MODELS = {"data": [{"id": "model"}]}
PASSWORD = "s3cret-of-the-database"


def postgres_bin() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed."""
    result = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    on_path = shutil.which("initdb")
    return result[-1].parent if result else Path(on_path).resolve().parent if on_path else None


def _as_nobody_special() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then as the user that Debian made for it."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


class Postgres:
    """A server with a user `optimize` and a password.

    Args:
        programs: The folder of PostgreSQL's programs.
        folder: Everything is kept here.

    Attributes:
        url: Its address.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder, self._port, self._who = programs, folder, free_port(), _as_nobody_special()
        self.url = f"postgresql://optimize:{PASSWORD}@127.0.0.1:{self._port}/postgres"
        (folder / "password").write_text(PASSWORD)
        if self._who:
            shutil.chown(folder, "postgres", "postgres")
        folder.chmod(0o755)
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "optimize", "--auth=scram-sha-256", "--no-sync",
             f"--pwfile={folder}/password"],
            check=True, capture_output=True, cwd=folder, **self._who,
        )  # fmt: skip

    def start(self) -> None:
        self._server = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self._port), "-k", self._folder,
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder, **self._who,
        )  # fmt: skip
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, self._server)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGINT does so at once, whoever is still connected."""
        self._server.send_signal(number)
        self._server.wait()


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A running server; its address."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(programs, folder)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


class MlflowServer:
    """An MLflow server that keeps everything in a folder.

    Args:
        folder: The folder.

    Attributes:
        uri: Its address.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        folder = self._folder
        self._server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self._port}", "--workers=1",
             f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, cwd=folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        until(lambda: is_up(f"{self.uri}/health"), self._server)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        os.killpg(self._server.pid, number)
        self._server.wait()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A running MLflow server; its address."""
    server = MlflowServer(folder)
    server.start()
    try:
        yield server.uri
    finally:
        server.stop()


@dataclass(frozen=True)
class RecordingProxy:
    """An HTTP proxy that answers every request itself, as a model's server would.

    Attributes:
        url: Its address.
        requests: (method, target, value of Authorization) of every request that it received.
    """

    url: str
    requests: list[tuple[str, str, str | None]]


@contextmanager
def recording_proxy() -> Iterator[RecordingProxy]:
    """A proxy in a thread of its own."""
    requests: list[tuple[str, str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((self.command, self.path, self.headers.get("Authorization")))
            streams = self.path.endswith("completions")
            body = b'data: {"choices": [{"text": "by proxy"}]}\n\ndata: [DONE]\n\n'
            body = body if streams else json.dumps(MODELS).encode()
            self.send_response(405 if self.command == "CONNECT" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_CONNECT = answer

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield RecordingProxy(f"http://127.0.0.1:{server.server_port}", requests)
        finally:
            server.shutdown()


def is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.HTTPError:
        return False


def until(true: Callable[[], bool], server: subprocess.Popen[Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a server did not start: exit code {server.poll()}")
        time.sleep(0.1)
