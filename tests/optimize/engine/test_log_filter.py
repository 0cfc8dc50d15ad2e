"""An engine's log holds no secret, whichever process of its tree writes it and however it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from optimize.engine import log_filter
from optimize.engine.log_filter import FilteredLog
from optimize.engine.process import ColdTree
from optimize.redaction import register

SECRET = "Zq1-s3cret-of-engines"
TALK = """
import os, subprocess, sys
print("one", os.environ["MY_TOKEN"], flush=True)
subprocess.run([sys.executable, "-c", "import os; os.write(2, b'two ' + os.environ['MY_TOKEN'].encode() + b' no end')"])
"""


def logged(code: str, log: Path) -> str:
    tree = ColdTree([sys.executable, "-c", code], {**os.environ, "MY_TOKEN": SECRET}, log, 0.2)
    assert tree.ended.wait(60)
    tree.settle_log()
    text = log.read_text()
    tree.stop()
    assert log.read_text() == text  # complete as soon as it is read for the cause of a failure
    return text


def test_every_line_of_every_process_is_filtered_and_none_is_lost(tmp_path: Path) -> None:
    register(SECRET, "$MY_TOKEN")
    assert logged(TALK, tmp_path / "a/log") == "one $MY_TOKEN\ntwo $MY_TOKEN no end"


def test_long_lines_and_bytes_that_are_no_text_arrive(tmp_path: Path) -> None:
    register(SECRET, "$MY_TOKEN")
    code = "import sys; sys.stdout.buffer.write(b'x' * 200_000 + b'\\xff\\n' + b'end\\r')"
    tree = ColdTree([sys.executable, "-c", code], os.environ, tmp_path / "raw", 0.2)
    assert tree.ended.wait(60)
    tree.stop()
    assert (tmp_path / "raw").read_bytes() == b"x" * 200_000 + b"\xff\n" + b"end\r"


def test_without_secrets_an_engine_writes_its_log_itself(tmp_path: Path) -> None:
    log = FilteredLog(tmp_path / "log", str(tmp_path))
    assert log.target == tmp_path / "log"
    log.settle(ended=True)
    log.close()


def test_the_filter_ends_with_an_engine_that_never_started_and_ignores_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_filter, "_END_S", 0.1)
    register(SECRET, "$MY_TOKEN")
    (tmp_path / "scratch").mkdir()
    log = FilteredLog(tmp_path / "log", str(tmp_path / "scratch"))
    with open(log.target, "wb", buffering=0) as pipe:
        pipe.write(b"begun\n")
        until_written(tmp_path / "log", b"begun\n")
        (program,) = [p for p in psutil.Process().children() if str(tmp_path / "log") in p.cmdline()]
        program.send_signal(signal.SIGTERM)
        pipe.write(f"more {SECRET}\n".encode())
        until_written(tmp_path / "log", b"begun\nmore $MY_TOKEN\n")
        log.close()
    assert not program.is_running()


def until_written(path: Path, content: bytes) -> None:
    deadline = time.monotonic() + 60
    while not path.is_file() or path.read_bytes() != content:
        assert time.monotonic() < deadline
        time.sleep(0.02)
