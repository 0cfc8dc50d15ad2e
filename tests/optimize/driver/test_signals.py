"""Signals of a session, sent to a process of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from optimize.driver.signals import terminable
from tests.conftest import ROOT

SESSION = """
import signal, sys, time
from pathlib import Path
from optimize.driver.signals import terminable

if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    with terminable():
        print("ready", flush=True)
        Path(sys.argv[1]).touch()
        time.sleep(float(sys.argv[2]))
except KeyboardInterrupt:
    print("the result so far", flush=True)
    Path(sys.argv[1]).write_text("reported")
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_session_ends_as_with_ctrl_c(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, tmp_path / "state", "60"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == "the result so far\n" and process.returncode == 130


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_disturb_the_end(first: signal.Signals) -> None:
    """As where a session was stopped, and meets all that was sent to it at once when it goes on."""
    ended, before = False, signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        with pytest.raises(KeyboardInterrupt), terminable():
            try:
                signal.raise_signal(first)
            finally:
                signal.raise_signal(signal.SIGTERM)
                ended = True
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended


def test_a_terminal_that_closes_does_not_keep_a_session_from_its_report(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, tmp_path / "state", "60"], cwd=ROOT,
        stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)  # the kernel sends SIGHUP, and fails every write from here on
    assert process.wait(60) == 130
    assert (tmp_path / "state").read_text() == "reported"


def test_a_session_under_nohup_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, tmp_path / "state", "0.5", "nohup"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60)[0] == "" and process.returncode == 0
