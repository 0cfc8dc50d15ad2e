"""The reaper leaves nothing behind, however a tree or its owner ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from optimize.engine.process import event_of
from optimize.errors import TransientFault
from tests.conftest import ROOT
from tests.optimize.engine.trees import STUBBORN, tree_of, wait_for


def test_stop_ends_descendants_that_left_the_session_and_ignore_sigterm(tmp_path: Path) -> None:
    tree = tree_of(STUBBORN, tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    pids = [p.pid for p in tree.processes()]
    tree.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_exit_code_is_reported(tmp_path: Path) -> None:
    tree = tree_of("raise SystemExit(3)", tmp_path / "log")
    assert tree.ended.wait(60)
    assert tree.exit_code == 3
    assert tree.broken() == "main process ended"
    tree.stop()


def test_signal_is_reported_as_negative_code(tmp_path: Path) -> None:
    tree = tree_of("import os; os.kill(os.getpid(), 9)", tmp_path / "log")
    assert tree.ended.wait(60)
    assert tree.exit_code == -signal.SIGKILL
    tree.stop()


def test_orphans_of_a_dead_main_process_are_ended(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    until_flag = f"while not os.path.exists({str(flag)!r}): time.sleep(0.02)\n"
    tree = tree_of(STUBBORN.replace("time.sleep(300)\n", until_flag), tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    pids = [p.pid for p in tree.processes()]
    flag.touch()
    assert tree.ended.wait(60)
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    tree.stop()


def test_death_of_a_watched_child_breaks_the_tree(tmp_path: Path) -> None:
    tree = tree_of(STUBBORN, tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    tree.watch()
    assert tree.broken() is None
    tree.processes()[-1].kill()
    assert wait_for(lambda: tree.broken() is not None)
    tree.stop()


def test_output_is_kept_in_the_log(tmp_path: Path) -> None:
    tree = tree_of("print('hello')", tmp_path / "log")
    assert tree.ended.wait(60)
    tree.stop()
    assert (tmp_path / "log").read_text() == "hello\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_of_the_owner_ends_the_tree(tmp_path: Path, number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from pathlib import Path; from optimize.engine.process import ColdTree;"
            f"t = ColdTree([sys.executable, '-c', {STUBBORN!r}], os.environ, Path({str(tmp_path / 'log')!r}), 0.2);\n"
            "while len(t.processes()) < 2: time.sleep(0.02)\n"
            "print(*[p.pid for p in t.processes()], flush=True); time.sleep(300)",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.send_signal(number)
    owner.wait()
    owner.stdout.close()
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_lines_that_are_no_events_end_no_reader(tmp_path: Path) -> None:
    assert [event_of(line) for line in ("warning: x\n", "[1]\n", '{"exit": 3}\n')] == [{}, {}, {"exit": 3}]


def test_a_start_that_the_machine_does_not_allow_is_a_transient_fault_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    with pytest.raises(TransientFault, match="no folder for its temporary files"):
        tree_of("pass", tmp_path / "log")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "file").touch()
    for log in (tmp_path / "file" / "log", tmp_path):  # no folder for the log, and no log
        with pytest.raises(TransientFault, match="an engine could not be started"):
            tree_of("pass", log)
    assert list((tmp_path / "scratch").iterdir()) == []
