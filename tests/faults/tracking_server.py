"""MLflow's server in a process that has imported it once, and forks it at every start: the import takes seconds.

Usage: python -m tests.faults.tracking_server PORT FOLDER. Each line of standard input starts a server, whose process
number is the answer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from optimize.engine.process import free_port
from tests.optimize.servers import is_up, until

_ROOT = Path(__file__).resolve().parents[2]


class TrackingServer:
    """A server that can be killed and started again; `close` ends its process for good.

    Args:
        folder: Everything is kept here.

    Attributes:
        uri: Its address.
    """

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self._importer = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.tracking_server", str(port), str(folder)], cwd=_ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        assert self._importer.stdin is not None and self._importer.stdout is not None
        print(file=self._importer.stdin, flush=True)
        self._server = psutil.Process(int(self._importer.stdout.readline()))
        until(lambda: is_up(f"{self.uri}/health"), self._importer)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._server.send_signal(number)
        self._server.wait(60)

    def close(self) -> None:
        if self._server.is_running():
            self.stop()
        self._importer.communicate()


def main(port: int, folder: Path) -> None:
    # As `mlflow server` tells its workers, see mlflow.server.constants; read when it is imported.
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/", "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # fmt: skip
    import uvicorn
    from mlflow.server.fastapi_app import app

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a server that was killed
    for _ in sys.stdin:
        server = os.fork()
        if server == 0:
            uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")
            return
        print(server, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
