"""An engine's log without secrets: its output passes through a program that replaces them on its way to the file.

The engine writes to a named pipe in its scratch folder. The program ends with the last process that holds the pipe, so
it outlives the launcher where that is killed, and no line is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

from optimize.redaction import redact, register_all, registered

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from optimize.engine.log_filter import main; main(sys.argv[2])"
_SOURCE = Path(__file__).resolve().parents[2]
_SECRETS = "OPTIMIZE_SECRETS"
_LOOK_S, _SETTLE_S, _ENDING_S, _END_S = 1.0, 0.1, 1.0, 5.0
_LONGEST_LINE_BYTES = 1 << 16


class FilteredLog:
    """Where an engine writes its output: the log itself while no secrets are registered, else a pipe that filters it.

    Args:
        log_path: The log.
        scratch: Folder of the engine's temporary files.

    Raises:
        OSError: the log cannot be opened for writing.
    """

    def __init__(self, log_path: Path, scratch: str) -> None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # Opened here, where a refusal becomes one line: it would end the reaper, or the filter.
        os.close(os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))
        self.target, self._program = log_path.resolve(), None
        if secrets := registered():
            self.target = Path(scratch) / "log"
            self._program = _start(log_path.resolve(), self.target, json.dumps(secrets))

    def settle(self, ended: bool) -> None:
        """Wait a moment for what the engine has written last.

        Args:
            ended: Whether its main process has ended, so that the log is about to end, too.
        """
        if self._program is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._program.wait(_ENDING_S if ended else _SETTLE_S)

    def close(self) -> None:
        """Wait for the end of the log, after that of the engine."""
        if self._program is None:
            return
        try:
            self._program.wait(_END_S)
        except subprocess.TimeoutExpired:  # the engine never opened the pipe, or one of its processes escaped
            self._program.kill()
            self._program.wait()


def _start(log_path: Path, pipe: Path, secrets: str) -> subprocess.Popen[bytes]:
    os.mkfifo(pipe, 0o600)
    # Open for reading before the engine opens it for writing: neither waits for the other.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_SOURCE), str(log_path)],
            stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={_SECRETS: secrets},
            process_group=0,
        )  # fmt: skip
    finally:
        os.close(reader)


def main(log_path: str) -> None:
    """Copy standard input to the log line by line, without secrets."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # without a reader, the engine could write no more
    register_all(json.loads(os.environ.pop(_SECRETS)))
    parent, rest, began = os.getppid(), b"", False
    poller = select.poll()
    poller.register(0, select.POLLIN)
    with open(log_path, "ab", buffering=0) as log:
        while began or os.getppid() == parent:
            if not poller.poll(_LOOK_S * 1000):
                continue
            received = os.read(0, _LONGEST_LINE_BYTES)
            began = True
            whole, rest = _split(rest + received, last=not received)
            with contextlib.suppress(OSError):  # a full disk costs lines, not the engine
                log.write(_redacted(whole))
            if not received:
                return


def _split(buffer: bytes, last: bool) -> tuple[bytes, bytes]:
    """(Whole lines, the beginning of the next one); everything at the end, and of a line that is too long."""
    if last or len(buffer) > _LONGEST_LINE_BYTES:
        return buffer, b""
    at = max((match.end() for match in re.finditer(rb"[\r\n]", buffer)), default=0)
    return buffer[:at], buffer[at:]


def _redacted(lines: bytes) -> bytes:
    return redact(lines.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
